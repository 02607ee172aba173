//! The conformance suites of the capabilities, on a browser's own, and a node's half of the network.
//! `tests/e2e/wasm.test.mjs` and `network.test.mjs` run them.
#![cfg(target_family = "wasm")]

use futures::future::{join, try_join, try_join_all};
use kwaainet_browser::{bytes_over, performance_now, spawn};
use kwaainet_network::remote::{Port, RemoteNetwork};
use kwaainet_network::{Address, MessageStream, Network as _, PeerId, Protocol};
use kwaainet_sdk_wasm::platform::blob_store::{Home, store_in};
use kwaainet_testkit::blob_store_suite;
use wasm_bindgen::prelude::*;

/// Runs the suite of blob stores; traps with the name of the rule that is broken.
///
/// # Errors
/// When there is no such home, or the browser refuses it.
#[wasm_bindgen]
pub async fn run_blob_store_suite(home: String) -> Result<(), JsError> {
    let home = match home.as_str() {
        "sync file" => Home::SyncFile,
        "whole file" => Home::WholeFile,
        "pages" => Home::Pages,
        _ => return Err(JsError::new(&format!("there is no home called {home}"))),
    };
    let store = store_in(home).await?;
    blob_store_suite(async || store.clone()).await;
    Ok(())
}

/// As `kwaainet peer --echo` answers.
const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 2 << 20,
};

/// A node's half of a network that is in another worker.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Remote(RemoteNetwork);

/// Waits for the network at the other end of the port.
///
/// # Errors
/// When it is gone.
#[wasm_bindgen]
pub async fn connect(port: web_sys::MessagePort) -> Result<Remote, JsError> {
    let (to, from) = bytes_over(port);
    let connected = RemoteNetwork::connect(Port { to, from }).await;
    let (network, moving) = connected.ok_or_else(|| JsError::new("there is no network"))?;
    spawn(moving);
    Ok(Remote(network))
}

fn parsed(address: &str) -> Result<(PeerId, Address), JsError> {
    let address = Address::new(address).and_then(|address| address.split_peer());
    address.ok_or_else(|| JsError::new("this is no address of a peer"))
}

#[wasm_bindgen]
impl Remote {
    /// Connects; how long that took, in milliseconds.
    ///
    /// # Errors
    /// What the network says.
    pub async fn dial(&self, address: String) -> Result<f64, JsError> {
        let (peer, address) = parsed(&address)?;
        let begun = performance_now();
        self.0.dial(peer, vec![address]).await?;
        Ok(performance_now() - begun)
    }

    /// How long each echo of so many bytes took, on one stream. Every byte is compared.
    ///
    /// # Errors
    /// What the network says, or that something else came back.
    pub async fn echo(&self, address: String, bytes: usize, times: usize) -> Result<Vec<f64>, JsError> {
        let (peer, _) = parsed(&address)?;
        let mut stream = self.0.open(peer, ECHO).await?;
        let message: Vec<u8> = (0..bytes).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect();
        let mut took = vec![];
        for _ in 0..times {
            let begun = performance_now();
            let (sent, back) = join(stream.sender.send(message.clone()), stream.receiver.next()).await;
            sent?;
            let back = back.ok_or_else(|| JsError::new("the stream ended"))??;
            if back != message {
                return Err(JsError::new("something else came back"));
            }
            took.push(performance_now() - begun);
        }
        Ok(took)
    }

    /// How long it took until so many messages were there and back, in milliseconds, where none waits for the echo of another.
    ///
    /// # Errors
    /// As [`Self::echo`].
    pub async fn through(&self, address: String, bytes: usize, times: usize) -> Result<f64, JsError> {
        let (peer, _) = parsed(&address)?;
        let MessageStream {
            mut sender,
            mut receiver,
            ..
        } = self.0.open(peer, ECHO).await?;
        let message = vec![7; bytes];
        let begun = performance_now();
        let sent = async {
            for _ in 0..times {
                sender.send(message.clone()).await?;
            }
            Ok::<_, JsError>(())
        };
        let back = async {
            for _ in 0..times {
                let back = receiver.next().await;
                if back.ok_or_else(|| JsError::new("the stream ended"))??.len() != bytes {
                    return Err(JsError::new("something else came back"));
                }
            }
            Ok(())
        };
        try_join(sent, back).await?;
        Ok(performance_now() - begun)
    }

    /// So many streams at once, each with an echo of its own.
    ///
    /// # Errors
    /// As [`Self::echo`].
    pub async fn streams(&self, address: String, count: usize) -> Result<usize, JsError> {
        let echoes = (0..count).map(|which| self.echo(address.clone(), 1000 + which, 1));
        Ok(try_join_all(echoes).await?.len())
    }

    /// Ids of those who are connected.
    pub fn peers(&self) -> Vec<String> {
        let peers = self.0.peers();
        peers.iter().map(|info| info.peer.to_string()).collect()
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// If the address is none.
    pub fn disconnect(&self, address: String) -> Result<(), JsError> {
        self.0.disconnect(parsed(&address)?.0);
        Ok(())
    }
}
