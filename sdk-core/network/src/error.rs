//! Why something did not work between two peers.

use crate::{Address, PeerId};

/// What went wrong on the way to a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No address of the peer answers, or it is not there any more.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// Who was called.
        peer: PeerId,
        /// What the transport said.
        reason: String,
    },
    /// The peer is there, and does not speak this protocol.
    #[error("{peer} does not speak {protocol}")]
    NotSpoken {
        /// Who was asked.
        peer: PeerId,
        /// What it was asked to speak.
        protocol: &'static str,
    },
    /// The stream or its connection ended in the middle of something.
    #[error("the stream to {peer} broke: {reason}")]
    Broken {
        /// Who is at the other end.
        peer: PeerId,
        /// What the transport said.
        reason: String,
    },
    /// A message longer than the protocol allows, in either direction. Nothing was allocated for it.
    #[error("a message of {bytes} bytes is longer than the {limit} of {protocol}")]
    TooLong {
        /// Its announced length.
        bytes: u64,
        /// What is allowed.
        limit: usize,
        /// The protocol that allows it.
        protocol: &'static str,
    },
    /// One of our own limits, or one that the peer told us of. Try again later.
    #[error("too much at once: {0}")]
    Busy(String),
    /// The protocol is served already.
    #[error("{0} is served already")]
    AlreadyServed(&'static str),
    /// The address is none that this host can dial.
    #[error("{0} is no address that can be dialled here")]
    BadAddress(Address),
    /// The node has left the network.
    #[error("this node has left the network")]
    Closed,
}
