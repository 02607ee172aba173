//! WebRTC Direct: browsers connect to this machine without a certificate that somebody has signed
//! (libp2p/specs, webrtc/webrtc-direct.md, both versions; docs/decisions/0017).

mod certificate;
mod channel;
mod connection;
mod dial;
mod listener;
mod session;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use kwaainet_p2p::webrtc::{DirectAddress, End};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, identity};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub(super) use certificate::Certificate;
use listener::{Arrived, Listener};

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system gives no socket.
    #[error("no UDP socket: {0}")]
    Socket(io::Error),
    /// The connection ended before it was known who is there.
    #[error("the connection was closed during its handshake")]
    Closed,
    /// No proof of who is there.
    #[error("the peer did not prove who it is: {0}")]
    Handshake(io::Error),
    /// The address names no certificate, or another than was shown.
    #[error("the peer's certificate is not the one that its address names")]
    Certificate,
    /// Nobody answered in time.
    #[error("the peer did not answer in time")]
    TimedOut,
}

/// HMAC-SHA1, with which STUN is signed (RFC 8489). It is of no use for anything else.
fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let mut context = ring::hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; 20];
    for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    tag
}

/// For all peers of a listener.
#[cfg(unix)]
const RECEIVE_BUFFER: usize = 2 << 20;

type Upgrade = BoxFuture<'static, Result<(PeerId, StreamMuxerBox), Error>>;
type Happening = TransportEvent<Upgrade, Error>;

struct Listening {
    task: AbortHandle,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    /// Where it is bound; without an address if that is everywhere.
    bound: SocketAddr,
    /// Tells the addresses of this machine, if it is bound to all of them.
    watcher: Option<IfWatcher>,
}

/// The transport. It needs a runtime of tokio around it.
pub(super) struct WebRtc {
    certificate: Certificate,
    keypair: identity::Keypair,
    listening: HashMap<ListenerId, Listening>,
    happened: VecDeque<Happening>,
    waker: Option<Waker>,
}

impl WebRtc {
    pub(super) fn new(certificate: Certificate, keypair: identity::Keypair) -> Self {
        Self {
            certificate,
            keypair,
            listening: HashMap::new(),
            happened: VecDeque::new(),
            waker: None,
        }
    }

    fn address(&self, socket: SocketAddr) -> Multiaddr {
        DirectAddress {
            socket,
            fingerprint: Some(self.certificate.fingerprint),
            peer: None,
        }
        .to_multiaddr()
    }

    fn listen(&mut self, id: ListenerId, at: SocketAddr) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        // Browsers send in bursts. Where the system allows less, it gives what it allows.
        #[cfg(unix)]
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let bound = socket.local_addr()?;
        let watcher = bound.ip().is_unspecified().then(IfWatcher::new).transpose()?;
        let (sender, arrived) = mpsc::unbounded_channel();
        let listener = Listener::new(UdpSocket::from_std(socket)?, self.certificate.clone(), sender);
        let task = tokio::spawn(listener.run()).abort_handle();
        if watcher.is_none() {
            self.happened.push_back(TransportEvent::NewAddress {
                listener_id: id,
                listen_addr: self.address(bound),
            });
        }
        let listening = Listening {
            task,
            arrived,
            bound,
            watcher,
        };
        self.listening.insert(id, listening);
        self.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn admit(&self, arrived: Arrived) -> Upgrade {
        let (own, keypair) = (self.certificate.fingerprint, self.keypair.clone());
        async move {
            let secured = arrived
                .connection
                .secure(own, &keypair, End::Listener, None)
                .await;
            drop(arrived.permit);
            secured
        }
        .boxed()
    }
}

impl Transport for WebRtc {
    type Output = (PeerId, StreamMuxerBox);
    type Error = Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        match DirectAddress::parse(&address) {
            // A certificate hash says what is here already, or what cannot be here.
            Some(wanted)
                if wanted
                    .fingerprint
                    .is_none_or(|hash| hash == self.certificate.fingerprint) =>
            {
                self.listen(id, wanted.socket)
                    .map_err(|error| TransportError::Other(Error::Socket(error)))
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(listening) = self.listening.remove(&id) else {
            return false;
        };
        listening.task.abort();
        self.happened.push_back(TransportEvent::ListenerClosed {
            listener_id: id,
            reason: Ok(()),
        });
        true
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Upgrade, TransportError<Error>> {
        match DirectAddress::parse(&address) {
            Some(wanted) if wanted.fingerprint.is_some() && wanted.socket.port() != 0 => {
                Ok(dial::dial(wanted, self.certificate.clone(), self.keypair.clone()).boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Happening> {
        let this = &mut *self;
        if let Some(happened) = this.happened.pop_front() {
            return Poll::Ready(happened);
        }
        let mut seen = None;
        for (id, listening) in &mut this.listening {
            if let Some(watcher) = &mut listening.watcher
                && let Poll::Ready(Some(Ok(event))) = watcher.poll_next_unpin(cx)
            {
                seen = Some((*id, listening.bound, Err(event)));
                break;
            }
            if let Poll::Ready(Some(arrived)) = listening.arrived.poll_recv(cx) {
                seen = Some((*id, listening.bound, Ok(arrived)));
                break;
            }
        }
        let Some((listener_id, bound, seen)) = seen else {
            this.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let at = |ip| this.address(SocketAddr::new(ip, bound.port()));
        let event = match seen {
            Ok(arrived) => TransportEvent::Incoming {
                listener_id,
                local_addr: this.address(bound),
                send_back_addr: Multiaddr::from(arrived.from.ip())
                    .with(Protocol::Udp(arrived.from.port()))
                    .with(Protocol::WebRTCDirect),
                upgrade: this.admit(arrived),
            },
            Err(IfEvent::Up(net)) if net.addr().is_ipv4() == bound.is_ipv4() => TransportEvent::NewAddress {
                listener_id,
                listen_addr: at(net.addr()),
            },
            Err(IfEvent::Down(net)) if net.addr().is_ipv4() == bound.is_ipv4() => {
                TransportEvent::AddressExpired {
                    listener_id,
                    listen_addr: at(net.addr()),
                }
            }
            Err(_) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        Poll::Ready(event)
    }
}

impl Drop for WebRtc {
    fn drop(&mut self) {
        self.listening
            .values()
            .for_each(|listening| listening.task.abort());
    }
}

#[cfg(test)]
mod tests;
