//! For nodes that show their address to nobody but the peers that they were told of: everybody else is dialled through
//! those as relays, or not at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::{Multiaddr, Transport};
use libp2p::multiaddr::Protocol;

use crate::state::Shared;

type Direct = Boxed<(libp2p::PeerId, StreamMuxerBox)>;

/// The host's transports, for some peers only.
pub(crate) struct Gate {
    inner: Direct,
    shared: Arc<Shared>,
}

#[derive(Debug, thiserror::Error)]
#[error("this node shows its address to its relays only, and the peer is none of them")]
struct Stranger;

impl Gate {
    pub(crate) fn new(inner: Direct, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl Transport for Gate {
    type Output = <Direct as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Direct as Transport>::ListenerUpgrade;
    type Dial = <Direct as Transport>::Dial;

    fn listen_on(&mut self, _: ListenerId, at: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(at))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, at: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        // libp2p writes at the end of every address whom it expects there.
        let told_of = match at.iter().last() {
            Some(Protocol::P2p(peer)) => self.shared.lock().told_of.contains(&peer),
            _ => false,
        };
        if told_of {
            self.inner.dial(at, options)
        } else {
            Err(TransportError::Other(io::Error::other(Stranger)))
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
