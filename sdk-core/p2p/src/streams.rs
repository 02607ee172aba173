//! Messages on a stream of bytes: each behind its length, as an unsigned varint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select, try_join};
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, SinkExt, StreamExt};
use kwaainet_network::{MessageReceiver, MessageSender, MessageStream, NetworkError, PeerId, Protocol};
use kwaainet_platform::{BoxFuture, Clock, boxed};

use crate::network::Spawn;
use crate::state::Traffic;

/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;
/// What was handed over before a sender was dropped is written for so long. A peer that reads nothing would hold it in our
/// memory otherwise, once for every stream that we opened to it. (A megabyte takes as long at 70 kbit/s.)
const LINGER: Duration = Duration::from_secs(120);
/// A length below 2^35 has five bytes at most.
const LONGEST_LENGTH: usize = 5;

/// Makes messages of a stream's bytes. One task of its own moves them in both directions: a sender that is dropped ends
/// the stream properly, and a future that is dropped cuts no message in two.
///
/// It must be one task. A yamux stream keeps a single waker for what both directions wait for (room in the connection's
/// queue): where two tasks share a stream, one of them sleeps for ever now and then (yamux 0.13; echoes of 1 MiB hung
/// every second time).
pub(crate) fn messages(
    peer: PeerId,
    protocol: Protocol,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    traffic: Arc<Traffic>,
    spawn: &Spawn,
    clock: Arc<dyn Clock>,
) -> MessageStream {
    let (read, write) = io.split();
    let (to, outgoing) = mpsc::channel(0);
    let (arrived, from) = mpsc::channel(0);
    let (wanted, unwanted) = oneshot::channel();
    let (sending, sent_all) = oneshot::channel::<()>();
    let reader = Reader {
        peer,
        protocol,
        io: read,
        buffer: Vec::new(),
        traffic: Arc::clone(&traffic),
    };
    spawn(boxed(async move {
        let reading = async {
            match select(Box::pin(reader.read_all(arrived)), unwanted).await {
                Either::Left((read, _)) => read,
                Either::Right(_) => Ok(()),
            }
        };
        let writing = async {
            let late = async {
                let _ = sent_all.await;
                clock.sleep(LINGER).await;
            };
            match select(Box::pin(write_all(write, outgoing, traffic)), Box::pin(late)).await {
                Either::Left(_) => Ok(()),
                Either::Right(_) => Err(Fault),
            }
        };
        // After a fault the stream is dropped, which resets it: a peer whose message we refuse must not wait for ever.
        let _: Result<_, Fault> = try_join(reading, writing).await;
    }));
    MessageStream {
        peer,
        sender: Box::new(Sender {
            peer,
            protocol,
            to,
            _sending: sending,
        }),
        receiver: Box::new(Receiver {
            from,
            _wanted: wanted,
        }),
    }
}

/// Writes what comes, and closes this direction after the last.
async fn write_all<W: AsyncWrite>(
    mut io: WriteHalf<W>,
    mut from: mpsc::Receiver<Vec<u8>>,
    traffic: Arc<Traffic>,
) {
    while let Some(message) = from.next().await {
        let (length, used) = encode_length(message.len());
        let written = async {
            io.write_all(length.get(..used).unwrap_or_default()).await?;
            io.write_all(&message).await?;
            io.flush().await
        };
        if written.await.is_err() {
            // Dropping `from` tells the sender.
            return;
        }
        traffic.sent.fetch_add(message.len() as u64, Ordering::Relaxed);
    }
    // The other side sees the end either way.
    let _ = io.close().await;
}

/// The peer broke the rules of the stream, or the stream broke; its receiver has been told.
struct Fault;

struct Sender {
    peer: PeerId,
    protocol: Protocol,
    to: mpsc::Sender<Vec<u8>>,
    /// When it is dropped, what was handed over has to be written soon.
    _sending: oneshot::Sender<()>,
}

impl MessageSender for Sender {
    fn send(&mut self, message: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let (bytes, limit, protocol) = (message.len() as u64, self.protocol.longest, self.protocol.name);
            if message.len() > limit {
                return Err(NetworkError::TooLong {
                    bytes,
                    limit,
                    protocol,
                });
            }
            // Waits while the one before it is being written.
            self.to
                .send(message)
                .await
                .map_err(|_| broken(self.peer, "it takes no more"))
        })
    }
}

struct Receiver {
    from: mpsc::Receiver<Result<Vec<u8>, NetworkError>>,
    /// When it is dropped, nothing more is read.
    _wanted: oneshot::Sender<()>,
}

impl MessageReceiver for Receiver {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, NetworkError>>> {
        boxed(self.from.next())
    }
}

struct Reader<R> {
    peer: PeerId,
    protocol: Protocol,
    io: ReadHalf<R>,
    /// What has arrived of the next messages. It grows with what arrives, and not with what was announced.
    buffer: Vec<u8>,
    traffic: Arc<Traffic>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Until the end or an error. It reads on only when the message before was taken: who does not read is not read for.
    async fn read_all(mut self, mut to: mpsc::Sender<Result<Vec<u8>, NetworkError>>) -> Result<(), Fault> {
        while let Some(message) = self.next_message().await.transpose() {
            let broke = message.is_err();
            let taken = to.send(message).await.is_ok();
            if broke {
                return Err(Fault);
            }
            if !taken {
                break;
            }
        }
        Ok(())
    }

    async fn next_message(&mut self) -> Result<Option<Vec<u8>>, NetworkError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let mut piece = [0; PIECE];
            let read = self.io.read(&mut piece).await;
            let read = read.map_err(|error| broken(self.peer, &error.to_string()))?;
            match piece.get(..read) {
                Some([]) | None if self.buffer.is_empty() => return Ok(None),
                Some([]) | None => return Err(broken(self.peer, "it ended in the middle of a message")),
                Some(piece) => self.buffer.extend_from_slice(piece),
            }
        }
    }

    /// The next whole message in the buffer.
    fn take(&mut self) -> Result<Option<Vec<u8>>, NetworkError> {
        let Some((len, used)) = decode_length(&self.buffer) else {
            return if self.buffer.len() < LONGEST_LENGTH {
                Ok(None)
            } else {
                Err(broken(self.peer, "it sent a length that is none"))
            };
        };
        let (limit, protocol) = (self.protocol.longest, self.protocol.name);
        if len > limit as u64 {
            return Err(NetworkError::TooLong {
                bytes: len,
                limit,
                protocol,
            });
        }
        let end = used + len as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let rest = self.buffer.split_off(end);
        let mut message = std::mem::replace(&mut self.buffer, rest);
        message.drain(..used);
        self.traffic.received.fetch_add(len, Ordering::Relaxed);
        Ok(Some(message))
    }
}

fn broken(peer: PeerId, reason: &str) -> NetworkError {
    NetworkError::Broken {
        peer,
        reason: reason.to_owned(),
    }
}

/// Unsigned varint: seven bits a byte, the lowest first. The bytes, and how many of them count.
pub(crate) fn encode_length(len: usize) -> ([u8; 10], usize) {
    let (mut bytes, mut used, mut left) = ([0; 10], 0, len as u64);
    for byte in &mut bytes {
        *byte = (left & 0x7f) as u8 | if left > 0x7f { 0x80 } else { 0 };
        used += 1;
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    (bytes, used)
}

/// The length at the start, and its own bytes; `None` if it is not whole yet, or is none.
pub(crate) fn decode_length(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut len = 0;
    for (at, byte) in bytes.iter().take(LONGEST_LENGTH).enumerate() {
        len |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((len, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use futures::future::join;
    use kwaainet_network::Keypair;
    use kwaainet_testkit::IdleClock;

    use super::*;

    /// A stream whose other end neither reads nor writes.
    #[expect(dead_code, reason = "held, so that it is seen to be dropped")]
    struct Stuck(Arc<()>);

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn what_nobody_reads_does_not_stay_in_memory_when_its_sender_is_gone() {
        let (clock, stream) = (Arc::new(IdleClock::default()), Arc::new(()));
        let tasks = Arc::new(Mutex::new(vec![]));
        let spawned = Arc::clone(&tasks);
        let spawn: Spawn = Arc::new(move |task| spawned.lock().unwrap().push(task));
        let protocol = Protocol {
            name: "/test/1",
            longest: 10,
        };
        let mut messages = messages(
            Keypair::from_seed([1; 32]).peer_id(),
            protocol,
            Stuck(Arc::clone(&stream)),
            Arc::default(),
            &spawn,
            clock.clone(),
        );
        let task = tasks.lock().unwrap().pop().unwrap();
        clock.run(join(task, async {
            messages.sender.send(vec![7; 10]).await.unwrap();
            // While somebody may still send, a slow reader is waited for.
            clock.sleep(10 * LINGER).await;
            assert_eq!(Arc::strong_count(&stream), 2);
            drop(messages);
        }));
        assert_eq!(Arc::strong_count(&stream), 1);
        assert_eq!(clock.monotonic_ms(), 11.0 * LINGER.as_secs_f64() * 1000.0);
    }

    #[test]
    fn lengths_survive() {
        for len in [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 20, u32::MAX as usize] {
            let (bytes, used) = encode_length(len);
            assert_eq!(decode_length(&bytes[..used]), Some((len as u64, used)));
            assert_eq!(decode_length(&bytes[..used - 1]), None);
        }
        // From the multiformats specification of unsigned varints.
        assert_eq!(encode_length(300).0[..2], [0xac, 0x02]);
        assert_eq!(decode_length(&[0xff; 20]), None);
    }
}
