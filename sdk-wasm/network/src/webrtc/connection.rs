//! A connection whose data channels are the window's.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::future::poll_fn;
use kwaainet_browser::spawn;
use kwaainet_network::remote::Port;
use kwaainet_p2p::webrtc::PeerConnection;
use kwaainet_webrtc::DataChannel;

use super::wire::{FromPage, ToPage};

/// The channel on which both ends prove who they are.
const HANDSHAKE: u32 = 0;
/// Bytes of one channel that were handed over and have not left the device, before its stream waits.
const AHEAD: usize = 256 << 10;
/// Bytes of all channels that arrived and were not read. A browser cannot ask a peer to send less, so one that sends more
/// than is read is left.
const MOST_UNREAD: usize = 8 << 20;
/// Channels at once; those above are closed again. libp2p's streams of one peer stay far below.
const MOST_CHANNELS: usize = 512;

#[derive(Debug, Default)]
struct Lane {
    unread: VecDeque<Vec<u8>>,
    ahead: usize,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn wake(&mut self) {
        let both = [self.reader.take(), self.writer.take()];
        both.into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct State {
    /// `None` when the connection has ended.
    to: Option<mpsc::UnboundedSender<Vec<u8>>>,
    lanes: HashMap<u32, Lane>,
    incoming: VecDeque<u32>,
    next: u32,
    unread: usize,
    offer: Option<String>,
    reason: Option<String>,
    /// Who waits for the offer, and later for channels of the peer.
    waiting: Option<Waker>,
}

impl State {
    fn say(&self, message: &ToPage<'_>) {
        if let Some(to) = &self.to {
            // The window may be gone; then the end of its messages says so.
            let _ = to.unbounded_send(message.encode());
        }
    }

    fn end(&mut self, reason: String) {
        if self.to.take().is_none() {
            return;
        }
        self.reason = Some(reason);
        for lane in self.lanes.values_mut() {
            lane.closed = true;
            lane.wake();
        }
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn hear(&mut self, message: FromPage) {
        match message {
            FromPage::Offered(sdp) => {
                self.offer = Some(sdp);
                self.waiting.take().into_iter().for_each(Waker::wake);
            }
            FromPage::Incoming(channel) if self.lanes.len() >= MOST_CHANNELS => {
                self.say(&ToPage::Close(channel))
            }
            FromPage::Incoming(channel) => {
                self.lanes.insert(channel, Lane::default());
                self.incoming.push_back(channel);
                self.waiting.take().into_iter().for_each(Waker::wake);
            }
            FromPage::Message(channel, message) => {
                if let Some(lane) = self.lanes.get_mut(&channel) {
                    self.unread = self.unread.saturating_add(message.len());
                    lane.unread.push_back(message);
                    lane.reader.take().into_iter().for_each(Waker::wake);
                }
                if self.unread > MOST_UNREAD {
                    self.end(format!("the peer sent {MOST_UNREAD} bytes more than was read"));
                }
            }
            FromPage::Sent(channel, bytes) => {
                if let Some(lane) = self.lanes.get_mut(&channel) {
                    lane.ahead = lane.ahead.saturating_sub(bytes);
                    lane.writer.take().into_iter().for_each(Waker::wake);
                }
            }
            FromPage::Closed(channel) => {
                if let Some(lane) = self.lanes.get_mut(&channel) {
                    lane.closed = true;
                    lane.wake();
                }
            }
            FromPage::Failed(reason) => self.end(reason),
        }
    }

    fn ended(&self) -> io::Error {
        let reason = self
            .reason
            .clone()
            .unwrap_or_else(|| "the connection was closed".to_owned());
        io::Error::new(io::ErrorKind::ConnectionAborted, reason)
    }
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handle that libp2p closes. When it is dropped, the window ends the connection.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Shared,
}

impl Connection {
    /// Over this port the window serves one connection.
    pub(super) fn over(Port { to, mut from }: Port) -> Self {
        let state = State {
            to: Some(to),
            lanes: HashMap::from([(HANDSHAKE, Lane::default())]),
            incoming: VecDeque::new(),
            next: HANDSHAKE,
            unread: 0,
            offer: None,
            reason: None,
            waiting: None,
        };
        let shared = Arc::new(Mutex::new(state));
        spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Some(message) = from.next().await {
                    if let Some(message) = FromPage::decode(&message) {
                        lock(&shared).hear(message);
                    }
                }
                lock(&shared).end("the page has ended the connection".to_owned());
            }
        });
        Self { shared }
    }

    /// The browser's own offer.
    ///
    /// # Errors
    /// If the browser makes none.
    pub(super) async fn offer(&self) -> io::Result<String> {
        lock(&self.shared).say(&ToPage::Offer);
        poll_fn(|cx| {
            let mut state = lock(&self.shared);
            if let Some(offer) = state.offer.take() {
                return Poll::Ready(Ok(offer));
            }
            if state.to.is_none() {
                return Poll::Ready(Err(state.ended()));
            }
            state.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(super) fn answer(&self, sdp: &str) {
        lock(&self.shared).say(&ToPage::Answer(sdp));
    }

    pub(super) fn handshake(&self) -> Channel {
        self.channel(HANDSHAKE)
    }

    /// Why it ended, if it did.
    pub(super) fn reason(&self) -> Option<String> {
        lock(&self.shared).reason.clone()
    }

    fn channel(&self, id: u32) -> Channel {
        Channel {
            shared: Arc::clone(&self.shared),
            id,
        }
    }
}

impl PeerConnection for Connection {
    type Channel = Channel;

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Channel>> {
        let mut state = lock(&self.shared);
        if let Some(id) = state.incoming.pop_front() {
            return Poll::Ready(Ok(self.channel(id)));
        }
        if state.to.is_none() {
            return Poll::Ready(Err(state.ended()));
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Channel>> {
        let mut state = lock(&self.shared);
        if state.to.is_none() {
            return Poll::Ready(Err(state.ended()));
        }
        if state.lanes.len() >= MOST_CHANNELS {
            return Poll::Ready(Err(io::Error::other(
                "the connection has as many streams as it can",
            )));
        }
        let Some(id) = state.next.checked_add(2) else {
            return Poll::Ready(Err(io::Error::other(
                "the connection has had as many streams as it can",
            )));
        };
        state.next = id;
        state.lanes.insert(id, Lane::default());
        state.say(&ToPage::Open(id));
        Poll::Ready(Ok(self.channel(id)))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).end("the connection was closed".to_owned());
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.shared).end("the connection was closed".to_owned());
    }
}

/// A data channel. It is closed when it is dropped.
#[derive(Debug)]
pub(super) struct Channel {
    shared: Shared,
    id: u32,
}

impl DataChannel for Channel {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut state = lock(&self.shared);
        let Some(lane) = state.lanes.get_mut(&self.id) else {
            return Poll::Ready(None);
        };
        if let Some(message) = lane.unread.pop_front() {
            state.unread = state.unread.saturating_sub(message.len());
            return Poll::Ready(Some(message));
        }
        if lane.closed {
            return Poll::Ready(None);
        }
        lane.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared);
        match state.lanes.get_mut(&self.id) {
            Some(lane) if !lane.closed && lane.ahead < AHEAD => Poll::Ready(Ok(())),
            Some(lane) if !lane.closed => {
                lane.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Err(state.ended())),
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.shared);
        match state.lanes.get_mut(&self.id) {
            Some(lane) if !lane.closed => lane.ahead = lane.ahead.saturating_add(message.len()),
            _ => return Err(state.ended()),
        }
        state.say(&ToPage::Send(self.id, message));
        Ok(())
    }

    fn close(&mut self) {
        let mut state = lock(&self.shared);
        if let Some(lane) = state.lanes.remove(&self.id) {
            let unread: usize = lane.unread.iter().map(Vec::len).sum();
            state.unread = state.unread.saturating_sub(unread);
            state.say(&ToPage::Close(self.id));
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}
