//! A stream with two halves, made of a data channel that has none.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::channel::mpsc;
use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncWrite, StreamExt as _};

use crate::frame::{self, Decoder, Flag, Frame, FrameError, LONGEST, MOST_PAYLOAD};

/// A channel of messages, in order and without loss, that somebody else moves.
///
/// What is polled with one context may be polled later with another, and then only the later is woken.
pub trait DataChannel {
    /// The next message, of at most [`LONGEST`] bytes; `None` when the channel is closed.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>>;

    /// Waits until there is room: what is sent and not yet acknowledged stays below some bound.
    ///
    /// # Errors
    /// If the channel is closed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends a message. Frames without payload come without asking for room; a stream sends at most four.
    ///
    /// # Errors
    /// If the channel is closed.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Closes it, after what was sent. Further calls do nothing.
    fn close(&mut self);
}

/// Streams that wait, after their last handle is gone, for the other side. The oldest give way.
const MOST_LINGERING: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// Payload is thrown away: nobody holds the stream any more.
    Ignored,
    Ended,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// [`Flag::Fin`] was sent.
    Closing,
    /// And seen.
    Closed,
    /// The other side does not want more.
    Stopped,
    Broken,
}

/// Who has opened a channel, and is to close it.
///
/// Whoever opened it may use its number again as soon as it is closed. If the other side closed it as well, at the same time,
/// that would hit the next channel of this number: with libdatachannel (Node.js) it did, once in about twenty pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We have. It is closed when the other side has seen the end of the stream.
    Ours,
    /// The other side has. We wait until it is closed.
    Theirs,
}

/// A bidirectional stream. Both halves may be polled from tasks of their own.
#[derive(Debug)]
pub struct Substream<C: DataChannel> {
    inner: Option<Inner<C>>,
    lingering: mpsc::UnboundedSender<Inner<C>>,
}

#[derive(Debug)]
struct Inner<C> {
    channel: C,
    decoder: Decoder,
    /// Payload that was not read yet, and where it begins.
    payload: Vec<u8>,
    at: usize,
    reading: Reading,
    writing: Writing,
    /// The end was received, and not acknowledged.
    owes_ack: bool,
    side: Side,
    /// The channel is closed.
    gone: bool,
    halves: Arc<Halves>,
    both: Waker,
}

/// A channel has one waker for each direction, and what arrives can concern either half: so whatever arrives wakes both.
#[derive(Debug, Default)]
struct Halves {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// The streams of one connection that wait for the other side: to see their end, or to close their channel. Poll it wherever
/// the connection is polled.
#[derive(Debug)]
pub struct Lingering<C: DataChannel> {
    streams: Vec<Inner<C>>,
    dropped: mpsc::UnboundedReceiver<Inner<C>>,
    sender: mpsc::UnboundedSender<Inner<C>>,
}

impl<C: DataChannel> Default for Lingering<C> {
    fn default() -> Self {
        let (sender, dropped) = mpsc::unbounded();
        Self {
            streams: Vec::new(),
            dropped,
            sender,
        }
    }
}

impl<C: DataChannel> Lingering<C> {
    /// A stream on a new channel.
    pub fn stream(&self, channel: C, side: Side) -> Substream<C> {
        let halves = Arc::<Halves>::default();
        Substream {
            inner: Some(Inner {
                channel,
                decoder: Decoder::default(),
                payload: Vec::new(),
                at: 0,
                reading: Reading::Open,
                writing: Writing::Open,
                owes_ack: false,
                side,
                gone: false,
                both: Waker::from(Arc::clone(&halves)),
                halves,
            }),
            lingering: self.sender.clone(),
        }
    }

    /// Lets go of streams that wait for nothing more. It is never done.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(stream)) = self.dropped.poll_next_unpin(cx) {
            if self.streams.len() >= MOST_LINGERING {
                self.streams.remove(0).channel.close();
            }
            self.streams.push(stream);
        }
        self.streams.retain_mut(|stream| {
            stream.halves.reader.register(cx.waker());
            stream.absorb();
            let waits = stream.waits();
            if !waits {
                stream.channel.close();
            }
            waits
        });
    }
}

impl<C: DataChannel> Inner<C> {
    /// Takes in what has arrived, as far as there is room for its payload.
    fn absorb(&mut self) {
        self.take_in();
        // When everything was read: what a short request causes then comes together, its answer first.
        if self.owes_ack && self.at >= self.payload.len() {
            self.owes_ack = false;
            // A channel that has closed meanwhile tells so when it is read.
            let _ = self.channel.send(&frame::encode(Some(Flag::FinAck), &[]));
        }
    }

    fn take_in(&mut self) {
        while self.payload.len().saturating_sub(self.at) < LONGEST {
            match self.decoder.next() {
                Ok(Some(frame)) => self.note(frame),
                Ok(None) => {
                    let mut cx = Context::from_waker(&self.both);
                    match self.channel.poll_receive(&mut cx) {
                        Poll::Pending => return,
                        Poll::Ready(Some(message)) => {
                            if let Err(error) = self.decoder.push(&message) {
                                return self.refuse(error);
                            }
                        }
                        Poll::Ready(None) => return self.broke(),
                    }
                }
                Err(error) => return self.refuse(error),
            }
        }
    }

    fn note(&mut self, frame: Frame) {
        if self.reading == Reading::Open && !frame.message.is_empty() {
            if self.at > 0 {
                self.payload.drain(..self.at);
                self.at = 0;
            }
            self.payload.extend(frame.message);
            self.halves.reader.wake();
        }
        match frame.flag {
            Some(Flag::Fin) if matches!(self.reading, Reading::Open | Reading::Ignored) => {
                self.reading = Reading::Ended;
                self.owes_ack = true;
                self.halves.reader.wake();
            }
            Some(Flag::ResetStream) if matches!(self.reading, Reading::Open | Reading::Ignored) => {
                self.reading = Reading::Broken;
                self.halves.reader.wake();
            }
            Some(Flag::StopSending) if self.writing == Writing::Open => {
                self.writing = Writing::Stopped;
                self.halves.writer.wake();
            }
            Some(Flag::FinAck) if self.writing == Writing::Closing => {
                self.writing = Writing::Closed;
                self.halves.writer.wake();
            }
            _ => {}
        }
    }

    fn waits(&self) -> bool {
        !self.gone && (self.side == Side::Theirs || self.writing == Writing::Closing)
    }

    /// The channel is gone.
    fn broke(&mut self) {
        self.gone = true;
        if self.reading != Reading::Ended {
            self.reading = Reading::Broken;
        }
        if matches!(self.writing, Writing::Open | Writing::Closing) {
            self.writing = Writing::Broken;
        }
        self.halves.wake_by_ref();
    }

    /// The other side does not speak this protocol.
    fn refuse(&mut self, _: FrameError) {
        self.channel.close();
        self.broke();
    }

    /// Nobody holds it any more. Whether it has to linger.
    fn abandon(&mut self) -> bool {
        self.payload = Vec::new();
        self.at = 0;
        self.absorb();
        if self.reading == Reading::Open {
            self.reading = Reading::Ignored;
            self.payload = Vec::new();
            let _ = self.channel.send(&frame::encode(Some(Flag::StopSending), &[]));
        }
        let last = match self.writing {
            Writing::Open => Flag::ResetStream,
            // It was told to stop, and does so; the other side waits to hear it (js-libp2p counts the stream until then).
            Writing::Stopped => Flag::Fin,
            _ => return self.waits(),
        };
        self.writing = Writing::Broken;
        let _ = self.channel.send(&frame::encode(Some(last), &[]));
        self.waits()
    }
}

impl<C: DataChannel> Substream<C> {
    fn inner(&mut self) -> io::Result<&mut Inner<C>> {
        self.inner
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<C: DataChannel + Unpin> AsyncRead for Substream<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let inner = self.inner()?;
        inner.halves.reader.register(cx.waker());
        inner.absorb();
        let unread = inner.payload.get(inner.at..).unwrap_or_default();
        if !unread.is_empty() {
            let length = unread.len().min(to.len());
            if let (Some(to), Some(from)) = (to.get_mut(..length), unread.get(..length)) {
                to.copy_from_slice(from);
            }
            inner.at = inner.at.saturating_add(length);
            return Poll::Ready(Ok(length));
        }
        match inner.reading {
            Reading::Open | Reading::Ignored => Poll::Pending,
            Reading::Ended => Poll::Ready(Ok(0)),
            Reading::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl<C: DataChannel + Unpin> AsyncWrite for Substream<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let inner = self.inner()?;
        inner.halves.writer.register(cx.waker());
        inner.absorb();
        match inner.writing {
            Writing::Open => {}
            Writing::Closing | Writing::Closed | Writing::Stopped => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            Writing::Broken => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        ready!(inner.channel.poll_ready(&mut Context::from_waker(&inner.both)))?;
        let part = from.get(..MOST_PAYLOAD).unwrap_or(from);
        inner.channel.send(&frame::encode(None, part))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was sent is the channel's, which needs no pushing.
        Poll::Ready(self.inner().map(|_| ()))
    }

    /// Says that nothing more comes. Whether that was seen is waited for when the stream is dropped: until then its
    /// channel stays open, so nothing is lost.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = self.inner()?;
        if matches!(inner.writing, Writing::Open | Writing::Stopped) {
            inner.channel.send(&frame::encode(Some(Flag::Fin), &[]))?;
            inner.writing = Writing::Closing;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: DataChannel> Drop for Substream<C> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else {
            return;
        };
        if !inner.abandon() {
            return inner.channel.close();
        }
        // Without a connection to poll it there is nobody to linger for.
        if let Err(refused) = self.lingering.unbounded_send(inner) {
            refused.into_inner().channel.close();
        }
    }
}

#[cfg(test)]
#[path = "substream_tests.rs"]
mod tests;
