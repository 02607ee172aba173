//! The network of peers: libp2p in a worker and a wasm module of its own, which the page's side starts.

use std::sync::Arc;

use js_sys::{Array, Function, Reflect, Uint8Array};
use kwaainet_browser::{bytes_over, spawn};
use kwaainet_network::remote::{Port, RemoteNetwork};
use kwaainet_network::{Address, Keypair, Network, PeerId};
use kwaainet_node::NetworkHost;
use kwaainet_platform::{BoxFuture, boxed};
use wasm_bindgen::prelude::*;
use web_sys::MessagePort;

use crate::error::reason;

/// Calls this function with a secret of 32 bytes and the addresses of known peers; it gives `{ port, end }`: one end of a
/// port to a worker in which `start_network` has the other, and what ends that worker. A service worker has no such function.
pub(crate) struct WorkerNetwork(pub(crate) Option<Function>);

impl std::fmt::Debug for WorkerNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerNetwork").finish_non_exhaustive()
    }
}

impl WorkerNetwork {
    /// # Errors
    /// A sentence, where the browser starts none.
    fn worker(
        &self,
        keypair: &Keypair,
        known: &[(PeerId, Address)],
    ) -> Result<(MessagePort, Function), String> {
        let none = |why: JsValue| {
            format!(
                "no worker can be started here for the network of peers ({})",
                reason(&why)
            )
        };
        let seed = Uint8Array::from(keypair.seed().as_slice());
        let known: Array = known
            .iter()
            .map(|(peer, address)| JsValue::from(format!("{address}/p2p/{peer}")))
            .collect();
        let start = self
            .0
            .as_ref()
            .ok_or_else(|| none("a service worker has none".into()))?;
        let made = start.call2(&JsValue::NULL, &seed, &known).map_err(none)?;
        let part = |name: &str| Reflect::get(&made, &name.into()).map_err(none);
        Ok((
            part("port")?.dyn_into().map_err(none)?,
            part("end")?.dyn_into().map_err(none)?,
        ))
    }
}

impl NetworkHost for WorkerNetwork {
    fn start<'a>(
        &'a self,
        keypair: &'a Keypair,
        known: &'a [(PeerId, Address)],
    ) -> BoxFuture<'a, Result<Arc<dyn Network>, String>> {
        boxed(async move {
            let (port, end) = self.worker(keypair, known)?;
            let (to, from) = bytes_over(port);
            let connected = RemoteNetwork::connect(Port { to, from }).await;
            let (network, moving) = connected.ok_or(
                "the network's worker ended at once: check that its files are served, and reload the page",
            )?;
            spawn(async move {
                moving.await;
                // Nobody reads what this gives back; a worker that ended itself cannot be ended again.
                let _ = end.call0(&JsValue::NULL);
            });
            Ok(Arc::new(network) as Arc<dyn Network>)
        })
    }
}
