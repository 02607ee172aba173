//! Giving verified chunks away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use futures::future::{self, Either};
use futures::stream::{FuturesUnordered, StreamExt};
use kwaainet_platform::{BoxFuture, Clock, MaybeSend, MaybeSync, boxed};
use kwaainet_types::{HelpOthers, Permit};

use super::wire::{CHUNKS, FRAME_BYTES, Message};
use super::{scheduler::MAX_WINDOW, within};
use crate::record::ModelRoot;
use crate::{MessageSender, MessageStream, Network, NetworkError, PeerId};

/// Requests of one stream that wait: more than an honest peer has under way, so one with more is cut off.
const REQUESTS: usize = 2 * MAX_WINDOW;
/// A peer that takes no frame for so long is cut off.
const UNREAD_MS: u64 = 30_000;
/// A peer that asks for nothing for so long is cut off; an honest one asks for news every second.
const SILENT_MS: u64 = 120_000;
/// When a peer that came to a full house may come back.
const RETRY_MS: u32 = 2_000;

/// The chunks that this node has verified and may give away.
pub trait Library: MaybeSend + MaybeSync {
    /// Which chunks of a model are here: bit 0 of byte 0 is chunk 0. `None` if there are none.
    fn has(&self, root: ModelRoot) -> Option<Vec<u8>>;

    /// Which model's chunk has this SHA-256, and which of it, if that is here.
    fn find(&self, hash: &[u8; 32]) -> Option<(ModelRoot, u32)>;

    /// A verified chunk's bytes; `None` if it is not here.
    fn read(&self, root: ModelRoot, chunk: u32) -> BoxFuture<'_, Option<Vec<u8>>>;
}

/// What is given away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams of all peers. Each holds one chunk in memory.
    pub streams: usize,
    /// Streams of one peer.
    pub streams_per_peer: usize,
    /// Bytes per second to all peers together.
    pub bytes_per_second: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 32,
            streams_per_peer: 2,
            bytes_per_second: None,
        }
    }
}

/// Serves chunks until the node leaves the network. Dropping the future stops at once, as must be done when the
/// visitor takes the consent back.
///
/// # Errors
/// [`NetworkError::AlreadyServed`], [`NetworkError::Closed`].
pub async fn serve_chunks(
    network: &dyn Network,
    library: &dyn Library,
    clock: &dyn Clock,
    _permit: &Permit<HelpOthers>,
    limits: Limits,
) -> Result<(), NetworkError> {
    serve_chunks_at(network, library, clock, &Pace::new(limits, clock)).await
}

/// As [`serve_chunks`], sharing the pace with others.
pub(crate) async fn serve_chunks_at(
    network: &dyn Network,
    library: &dyn Library,
    clock: &dyn Clock,
    pace: &Pace,
) -> Result<(), NetworkError> {
    let mut incoming = network.serve(CHUNKS)?;
    let limits = pace.limits;
    let mut open = BTreeMap::<PeerId, usize>::new();
    let mut sessions = FuturesUnordered::<BoxFuture<'_, PeerId>>::new();
    let mut next = incoming.next();
    loop {
        let event = if sessions.is_empty() {
            Either::Left(next.as_mut().await)
        } else {
            match future::select(next.as_mut(), sessions.next()).await {
                Either::Left((stream, _)) => Either::Left(stream),
                Either::Right((ended, _)) => Either::Right(ended),
            }
        };
        match event {
            Either::Right(ended) => {
                if let Some(count) = ended.and_then(|peer| open.get_mut(&peer)) {
                    *count -= 1;
                }
                open.retain(|_, count| *count > 0);
            }
            Either::Left(None) => return Ok(()),
            Either::Left(Some(mut stream)) => {
                drop(next);
                next = incoming.next();
                let peer = stream.peer;
                let of_peer = open.get(&peer).copied().unwrap_or(0);
                if sessions.len() >= limits.streams || of_peer >= limits.streams_per_peer {
                    // Said if it can be said at once: nobody waits for a peer that is one too many.
                    let _said = stream
                        .sender
                        .send(Message::Busy(RETRY_MS).to_bytes())
                        .now_or_never();
                    continue;
                }
                open.insert(peer, of_peer + 1);
                sessions.push(boxed(async move {
                    session(stream, library, clock, pace).await;
                    peer
                }));
            }
        }
    }
}

/// Shares the upload rate between all streams.
pub(crate) struct Pace {
    pub(crate) limits: Limits,
    free_at_ms: Mutex<f64>,
}

impl Pace {
    pub(crate) fn new(limits: Limits, clock: &dyn Clock) -> Self {
        Self {
            limits,
            free_at_ms: Mutex::new(clock.monotonic_ms()),
        }
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn wait(&self, clock: &dyn Clock, bytes: usize) {
        let Some(rate) = self.limits.bytes_per_second else {
            return;
        };
        let now = clock.monotonic_ms();
        let at = {
            let mut free_at = self.free_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
            let at = free_at.max(now);
            *free_at = at + bytes as f64 * 1000.0 / rate.max(1) as f64;
            at
        };
        if at > now {
            clock.sleep(Duration::from_secs_f64((at - now) / 1000.0)).await;
        }
    }
}

enum Request {
    Bits(ModelRoot),
    Chunk(ModelRoot, u32),
}

/// One stream, until either side has had enough of it. Reading goes on while a chunk is sent, so that it can be
/// cancelled.
async fn session(stream: MessageStream, library: &dyn Library, clock: &dyn Clock, pace: &Pace) {
    let MessageStream {
        mut sender,
        mut receiver,
        ..
    } = stream;
    let (mut to_writer, mut requests) = mpsc::channel(REQUESTS);
    let cancelled = Arc::new(Mutex::new(BTreeSet::new()));
    let lock = || cancelled.lock().unwrap_or_else(PoisonError::into_inner);
    let read = async {
        let mut root = None;
        while let Some(Some(Ok(bytes))) = within(clock, SILENT_MS, receiver.next()).await {
            let request = match (Message::from_bytes(&bytes), root) {
                (Some(Message::Ask(asked)), _) if root.is_none_or(|root| root == asked) => {
                    root = Some(asked);
                    Request::Bits(asked)
                }
                (Some(Message::Want(chunk)), Some(root)) => {
                    lock().remove(&chunk);
                    Request::Chunk(root, chunk)
                }
                (Some(Message::Cancel(chunk)), Some(_)) if lock().len() < REQUESTS => {
                    lock().insert(chunk);
                    continue;
                }
                (Some(Message::Cancel(_)), Some(_)) => continue,
                _ => return,
            };
            if to_writer.try_send(request).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some(request) = requests.next().await {
            let sent = match request {
                Request::Bits(root) => {
                    let have = Message::Have(library.has(root).unwrap_or_default());
                    say(&mut sender, clock, have).await
                }
                Request::Chunk(_, chunk) if lock().remove(&chunk) => Some(()),
                Request::Chunk(root, chunk) => match library.read(root, chunk).await {
                    None => say(&mut sender, clock, Message::NotHere(chunk)).await,
                    Some(bytes) => {
                        let mut sent = Some(());
                        for (index, frame) in bytes.chunks(FRAME_BYTES).enumerate() {
                            if sent.is_none() || lock().remove(&chunk) {
                                break;
                            }
                            pace.wait(clock, frame.len()).await;
                            let frame = Message::Frame {
                                chunk,
                                offset: (index * FRAME_BYTES) as u32,
                                bytes: frame.to_vec(),
                            };
                            sent = say(&mut sender, clock, frame).await;
                        }
                        sent
                    }
                },
            };
            if sent.is_none() {
                return;
            }
        }
    };
    let (read, write) = (std::pin::pin!(read), std::pin::pin!(write));
    future::select(read, write).await;
}

async fn say(sender: &mut Box<dyn MessageSender>, clock: &dyn Clock, message: Message) -> Option<()> {
    within(clock, UNREAD_MS, sender.send(message.to_bytes()))
        .await?
        .ok()
}
