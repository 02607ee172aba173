//! What is said about the network of peers. Addresses are for the visitor and the operator, never for a site.

use serde::{Deserialize, Serialize};

/// Peers that a configuration may name.
pub const MOST_BOOTSTRAP: usize = 16;
/// Longest address of a peer, in bytes.
pub const LONGEST_ADDRESS: usize = 512;

/// Whether the node is in the network of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum NetworkState {
    /// It is not, and does not try.
    #[default]
    Off,
    /// It tries.
    Joining,
    /// It is connected to somebody.
    Joined,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum Via {
    /// Through a relay, which sees how much is said and not what. The peer does not see our address.
    Relayed,
    /// WebRTC, begun through a server or at an address of its own.
    WebRtc,
    /// WebSocket.
    WebSocket,
    /// QUIC.
    Quic,
    /// TCP.
    Tcp,
    /// Something else.
    Other,
}

/// A peer that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct PeerStatus {
    /// Its id, which its handshake proved.
    pub peer: String,
    /// How it is reached.
    pub via: Via,
    /// Where. Sites are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Bytes of messages sent to it since the connection began.
    pub sent: u64,
    /// Bytes of messages received from it since the connection began.
    pub received: u64,
}

/// The node among others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct NetworkStatus {
    /// Whether it takes part.
    pub state: NetworkState,
    /// Why it is not joined, where something went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Our own id, a new one at each visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Everybody who is connected.
    pub peers: Vec<PeerStatus>,
}
