//! libp2p behind [`kwaainet_network::Network`]: connections, identify, routing tables, relays, streams of messages.
//!
//! It must not know a runtime, a socket or a browser: the host brings transports and runs the futures. The entry type is
//! [`P2p`], made by [`P2p::new`]; `sdk-core/testkit` has the suite that it passes beside the network in memory.
//!
//! Nothing that a peer says is kept by libp2p itself: its routing table routes, and signed records travel on a protocol of
//! our own ([`RECORDS`](kwaainet_network::record::RECORDS), docs/decisions/0014).

mod behaviour;
#[cfg(feature = "direct")]
mod calls_back;
mod crowd;
#[cfg(feature = "direct")]
mod direct;
mod doorstep;
mod driver;
mod elsewhere;
mod gate;
mod ids;
mod muxer;
mod network;
mod places;
mod records;
mod state;
mod streams;
mod substreams;
pub mod webrtc;
mod websocket;

pub use behaviour::AGENT;
pub use elsewhere::Elsewhere;
pub use muxer::muxer;
pub use network::{Contact, Nearest, P2p, Parts, Setup, Spawn};
pub use state::RelayLoad;
pub use websocket::websocket_url;
