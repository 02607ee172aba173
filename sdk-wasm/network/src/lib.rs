//! libp2p in a browser's worker. The node runs in another module and worker, and reaches this one over a port; so a visitor
//! who helps nobody downloads nothing of it, and connections are served while a model computes.
//!
//! It dials over WebSocket and, with a window's help, WebRTC, and listens nowhere: others reach it through relays, or
//! because it called them.
#![cfg(target_family = "wasm")]

mod webrtc;
mod websocket;

use std::sync::Arc;

use futures::future::Either;
use kwaainet_browser::{BrowserClock, BrowserRandom, bytes_over, spawn};
use kwaainet_network::remote::{Port, serve_remote};
use kwaainet_network::{Address, Keypair};
use kwaainet_p2p::{Contact, Elsewhere, P2p, Parts, Setup, muxer};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, upgrade};
use libp2p::{identity, noise};
use wasm_bindgen::prelude::*;
use web_sys::{MessagePort, WorkerGlobalScope};

use crate::webrtc::WebRtc;
use crate::websocket::WebSockets;

/// Joins with the key that grows from these 32 bytes, serves the port, and returns when its other end is gone.
///
/// The window serves the port `page`: it makes WebRTC connections, which no worker can.
///
/// The peers at the known addresses are the only ones that learn where this visitor is, and the only relays that are used.
///
/// # Errors
/// A sentence, where the seed is none or this is no worker.
#[wasm_bindgen]
pub async fn start_network(
    seed: Vec<u8>,
    port: MessagePort,
    page: MessagePort,
    known: Vec<String>,
) -> Result<(), JsError> {
    let seed = seed
        .try_into()
        .map_err(|_: Vec<u8>| JsError::new("a seed has 32 bytes"))?;
    let keypair = Keypair::from_seed(seed);
    let clock = BrowserClock::new().map_err(|_| JsError::new("this worker has no MessageChannel"))?;
    let clock = Arc::new(clock);
    let parts = Parts {
        transport: transport(&keypair, page, &clock)?,
        spawn: Arc::new(spawn),
        clock: Arc::clone(&clock) as _,
        random: Arc::new(BrowserRandom),
    };
    let setup = Setup {
        contact: Contact::Relayed,
        ..Setup::default()
    };
    let network = P2p::new(&keypair, &setup, parts)?;
    let known = known
        .into_iter()
        .filter_map(|address| Address::new(address)?.split_peer());
    let known: Vec<_> = known.collect();
    let (to, from) = bytes_over(port);
    spawn({
        let network = network.clone();
        async move {
            let _reached = network.bootstrap(known).await;
        }
    });
    serve_remote(Arc::new(network), clock, Port { to, from }).await;
    Ok(())
}

/// Whether this page comes from the visitor's own machine, as it does where a site is being built.
fn is_local() -> bool {
    let scope = js_sys::global().unchecked_into::<WorkerGlobalScope>();
    let host = scope.location().hostname();
    matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}

fn transport(
    keypair: &Keypair,
    page: MessagePort,
    clock: &Arc<BrowserClock>,
) -> Result<Boxed<(libp2p::PeerId, StreamMuxerBox)>, JsError> {
    let keypair = identity::Keypair::ed25519_from_bytes(keypair.seed())?;
    let encryption = noise::Config::new(&keypair)?;
    let local = is_local();
    let webrtc = WebRtc::through(page, keypair, Arc::clone(clock));
    Ok(Elsewhere::new(WebSockets::new(Arc::clone(clock) as _), local)
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(encryption)
        .multiplex(muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .or_transport(Elsewhere::new(webrtc, local))
        .map(|either, _| match either {
            Either::Left(secured) | Either::Right(secured) => secured,
        })
        .boxed())
}
