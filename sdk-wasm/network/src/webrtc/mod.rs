//! Dials `/webrtc-direct` addresses: peers without a certificate that somebody has signed, which a page served over HTTPS
//! reaches by no WebSocket. Browsers have WebRTC in windows only, so the window makes the connections and moves their
//! messages to this worker; what they mean is decided here (version 2 of the protocol: the browser's offer is used as it is).

mod connection;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt as _, StreamExt as _};
use js_sys::Array;
use kwaainet_browser::{BrowserClock, bytes_over, spawn};
use kwaainet_network::remote::Port;
use kwaainet_p2p::webrtc::{DirectAddress, End, Muxer, authenticate};
use kwaainet_platform::Clock as _;
use kwaainet_webrtc::sdp::Offer;
use kwaainet_webrtc::{Fingerprint, prologue};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, identity};
use wasm_bindgen::JsValue;
use web_sys::{MessageChannel, MessagePort};

use connection::Connection;

/// From the first packet until both ends are known.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// What the window lends for a connection.
struct Lent {
    port: Port,
    /// Fires when a handshake has taken too long. (A clock's own futures stay on this thread, which libp2p's must not.)
    late: oneshot::Receiver<()>,
}

/// Asks the window for connections.
type Asks = mpsc::UnboundedSender<oneshot::Sender<Lent>>;

/// The transport. It listens nowhere.
pub(crate) struct WebRtc {
    page: Asks,
    keypair: identity::Keypair,
}

impl WebRtc {
    /// The window serves this port: for each port that it is sent, a connection.
    pub(crate) fn through(page: MessagePort, keypair: identity::Keypair, clock: Arc<BrowserClock>) -> Self {
        let (asks, mut asked) = mpsc::unbounded::<oneshot::Sender<Lent>>();
        spawn(async move {
            while let Some(reply) = asked.next().await {
                let Ok(channel) = MessageChannel::new() else {
                    continue;
                };
                let far = channel.port2();
                if page
                    .post_message_with_transferable(&JsValue::NULL, &Array::of1(&far))
                    .is_err()
                {
                    continue;
                }
                let (to, from) = bytes_over(channel.port1());
                let port = Port { to, from };
                let (fire, late) = oneshot::channel();
                // Whoever asked may have given up; then the port closes at once.
                let _ = reply.send(Lent { port, late });
                let clock = Arc::clone(&clock);
                spawn(async move {
                    clock.sleep(HANDSHAKE).await;
                    let _ = fire.send(());
                });
            }
        });
        Self { page: asks, keypair }
    }
}

async fn dial(
    page: Asks,
    at: DirectAddress,
    keypair: identity::Keypair,
) -> io::Result<(PeerId, StreamMuxerBox)> {
    let unsupported = || io::Error::other("no window makes WebRTC connections here");
    let promised = at.fingerprint.ok_or_else(unsupported)?;
    let (reply, made) = oneshot::channel();
    page.unbounded_send(reply).map_err(|_| unsupported())?;
    let Lent { port, late } = made.await.map_err(|_| unsupported())?;
    let secured = secure(Connection::over(port), at.socket, promised, keypair);
    match select(secured.boxed(), late).await {
        Either::Left((secured, _)) => secured,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Waits for DTLS and SCTP, and lets both ends prove who they are.
async fn secure(
    connection: Connection,
    listener: SocketAddr,
    promised: Fingerprint,
    keypair: identity::Keypair,
) -> io::Result<(PeerId, StreamMuxerBox)> {
    let offer = Offer::read(&connection.offer().await?).map_err(io::Error::other)?;
    // The browser ends the DTLS handshake if it is shown another certificate than the answer promises.
    connection.answer(&offer.answer(listener, &promised));
    let handshake = connection.handshake();
    let muxer = Muxer::new(connection);
    let prologue = prologue(&offer.fingerprint, &promised);
    let secured = authenticate(muxer.stream(handshake), &keypair, prologue, End::Dialler).await;
    let peer = secured.map_err(|error| match muxer.connection().reason() {
        Some(reason) => io::Error::other(reason),
        None => error,
    })?;
    Ok((peer, StreamMuxerBox::new(muxer)))
}

impl Transport for WebRtc {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(at) = DirectAddress::parse(&address)
            .filter(|wanted| wanted.fingerprint.is_some() && wanted.socket.port() != 0)
        else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(dial(self.page.clone(), at, self.keypair.clone()).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
