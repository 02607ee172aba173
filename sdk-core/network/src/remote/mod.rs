//! A network that lives elsewhere: in browsers, in a worker and a wasm module of its own, so that connections are served
//! while a model computes, and nobody downloads a transport who has not agreed to help others.
//!
//! [`RemoteNetwork`] is the node's half, [`serve_remote`] the half beside the connections; a [`Port`] carries messages
//! between them. Both halves are ours, but a message that makes no sense ends the port, and never panics.

mod host;
mod node;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use futures::channel::mpsc;

pub use host::serve_remote;
pub use node::RemoteNetwork;
pub use wire::{ToHost, ToNode};

/// One end of a channel of byte messages, in order and without loss, as a browser's `MessagePort` is one. It says nothing
/// of memory: streams have credit of their own.
#[derive(Debug)]
pub struct Port {
    /// Towards the other half.
    pub to: mpsc::UnboundedSender<Vec<u8>>,
    /// From the other half; its end says that the other half is gone.
    pub from: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Port {
    /// Two ends in memory.
    pub fn pair() -> (Self, Self) {
        let ((there, from_here), (here, from_there)) = (mpsc::unbounded(), mpsc::unbounded());
        let (one, other) = (
            Self {
                to: there,
                from: from_there,
            },
            Self {
                to: here,
                from: from_here,
            },
        );
        (one, other)
    }
}

/// Bytes of messages that are on their way through the port in one direction of a stream, before its sender waits. One
/// message more may be, so that any message can be sent at all.
const WINDOW: i64 = 1 << 20;
