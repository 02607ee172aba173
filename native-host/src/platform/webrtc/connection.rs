//! A connection: the session, the task that moves its packets, and the handles that libp2p holds.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use kwaainet_p2p::webrtc::{End, Muxer, PeerConnection, authenticate};
use kwaainet_webrtc::{DataChannel, Fingerprint, prologue};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::{PeerId, identity};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};

use super::Error;
use super::certificate::Certificate;
use super::channel::ChannelId;
use super::session::Session;

/// From the first packet until both ends are known.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(15);
/// Packets that wait for a connection's task; those after them are lost, as on any network.
const QUEUE: usize = 1_024;
/// Packets taken in before what they caused is sent: as many as a burst of SCTP.
const BATCH: usize = 64;
/// Packets sent in one window of time. A receiver's socket holds about 90 (208 KiB, of which each takes 2.3), and what it
/// loses at the end of a message costs a retransmission timeout. It allows 10 to 20 MB/s, as timers take up to 2 ms:
/// with 64, a third of the echoes of 1 MiB in Chromium waited for a timeout; with 20, one in twenty.
const BURST: usize = 20;
const WINDOW: Duration = Duration::from_millis(1);

/// What a socket has for a connection.
pub(super) enum Arrival {
    /// Not STUN.
    Packet(Vec<u8>),
    /// The peer has shown that it is there; or that it wants to be spoken to here.
    Check {
        /// Where it came from.
        from: SocketAddr,
        /// It has chosen this path.
        chosen: bool,
    },
}

/// Into a connection's task.
pub(super) type Arrivals = mpsc::Sender<Arrival>;

struct Shared {
    session: Mutex<Session>,
    /// Something is to be sent.
    kick: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After whatever may have caused a packet.
    fn kick(&self) {
        self.kick.notify_one();
    }
}

/// Time, as the sockets know it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Begins a connection. Its task ends with it.
pub(super) fn begin(
    certificate: &Certificate,
    end: End,
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
) -> Option<(Connection, Arrivals)> {
    let session = Session::new(certificate, end == End::Dialler, now())?;
    let shared = Arc::new(Shared {
        session: Mutex::new(session),
        kick: Notify::new(),
    });
    let (arrivals, queue) = mpsc::channel(QUEUE);
    tokio::spawn(carry(Arc::clone(&shared), socket, peer, queue));
    shared.kick();
    Some((Connection { shared }, arrivals))
}

/// However the task of a connection ends, nobody waits for it any longer.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// The task of a connection: packets in, packets out, and time.
async fn carry(
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    mut peer: SocketAddr,
    mut queue: mpsc::Receiver<Arrival>,
) {
    let _ends = Ends(Arc::clone(&shared));
    let mut first = None;
    let (mut window, mut room) = (now(), BURST);
    loop {
        let now = now();
        let (burst, over, deadline) = {
            let mut session = shared.lock();
            for _ in 0..BATCH {
                match first.take().or_else(|| queue.try_recv().ok()) {
                    None => break,
                    Some(Arrival::Packet(packet)) => session.receive(&packet, now),
                    Some(Arrival::Check { from, chosen }) => {
                        session.hear(now);
                        if chosen {
                            peer = from;
                        }
                    }
                }
            }
            session.advance(now);
            let over = session.is_down();
            if now.saturating_duration_since(window) >= WINDOW {
                (window, room) = (now, BURST);
            }
            let burst = session.take_outgoing(room);
            room = room.saturating_sub(burst.len());
            let waits = session
                .has_outgoing()
                .then(|| window.checked_add(WINDOW))
                .flatten();
            (
                burst,
                over && waits.is_none(),
                [session.deadline(), waits].into_iter().flatten().min(),
            )
        };
        for packet in burst {
            // A network that is gone for a while loses packets; silence ends the connection.
            let _ = socket.send_to(&packet, peer).await;
        }
        if over {
            return;
        }
        let sleep = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            arrival = queue.recv() => match arrival {
                Some(arrival) => first = Some(arrival),
                // The socket is gone.
                None => shared.lock().close(self::now()),
            },
            () = shared.kick.notified() => {}
            () = sleep => {}
        }
    }
}

/// The handle that libp2p closes.
pub(super) struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    /// Waits for DTLS and SCTP, and lets both ends prove who they are.
    pub(super) async fn secure(
        self,
        own: Fingerprint,
        keypair: &identity::Keypair,
        end: End,
        promised: Option<Fingerprint>,
    ) -> Result<(PeerId, StreamMuxerBox), Error> {
        let handshake = async {
            let (channel, peer) = poll_fn(|cx| self.shared.lock().poll_up(cx))
                .await
                .ok_or(Error::Closed)?;
            if promised.is_some_and(|promised| promised != peer) {
                return Err(Error::Certificate);
            }
            let prologue = match end {
                End::Listener => prologue(&peer, &own),
                End::Dialler => prologue(&own, &peer),
            };
            let channel = self.channel(channel);
            let muxer = Muxer::new(self);
            let peer = authenticate(muxer.stream(channel), keypair, prologue, end)
                .await
                .map_err(Error::Handshake)?;
            Ok((peer, StreamMuxerBox::new(muxer)))
        };
        timeout(HANDSHAKE, handshake).await.map_err(|_| Error::TimedOut)?
    }

    fn channel(&self, id: ChannelId) -> Channel {
        Channel {
            shared: Arc::clone(&self.shared),
            id,
        }
    }
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl PeerConnection for Connection {
    type Channel = Channel;

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Channel>> {
        let incoming = ready!(self.shared.lock().poll_incoming(cx));
        Poll::Ready(incoming.map(|id| self.channel(id)).ok_or_else(closed))
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Channel>> {
        let opened = self.shared.lock().open();
        self.shared.kick();
        Poll::Ready(opened.map(|id| self.channel(id)).ok_or_else(closed))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().close(now());
        self.shared.kick();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().close(now());
        self.shared.kick();
    }
}

/// A data channel. It is closed when it is dropped.
pub(super) struct Channel {
    shared: Arc<Shared>,
    id: ChannelId,
}

impl DataChannel for Channel {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut session = self.shared.lock();
        let received = session.poll_receive(self.id, cx);
        if session.has_room_again() {
            self.shared.kick();
        }
        received
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let open = ready!(self.shared.lock().poll_ready(self.id, cx));
        Poll::Ready(if open { Ok(()) } else { Err(closed()) })
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = self.shared.lock().send(self.id, message);
        self.shared.kick();
        if sent { Ok(()) } else { Err(closed()) }
    }

    fn close(&mut self) {
        self.shared.lock().close_channel(self.id);
        self.shared.kick();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}
