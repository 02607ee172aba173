//! One model from many peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::SinkExt;
use futures::channel::mpsc;
use futures::stream::{FuturesUnordered, StreamExt};
use kwaainet_platform::{BoxFuture, Clock, Random, boxed};
use kwaainet_types::{CHUNK_BYTES, HelpOthers, Permit};
use sha2::{Digest, Sha256};

use super::scheduler::{Gaps, MAX_PEERS, Scheduler};
use super::wire::{CHUNKS, FRAME_BYTES, MAX_CHUNKS, Message};
use super::within;
use crate::bitswap::Exchange;
use crate::record::ModelRoot;
use crate::{MessageStream, Network, NetworkError, PeerId};

/// A peer that owes an answer, and sends no whole frame for so long, is left.
pub(super) const ANSWER_MS: u64 = 20_000;
/// How long a peer that has nothing we miss is left alone before it is asked for news.
pub(super) const NEWS_MS: u64 = 1_000;
/// A peer without news for so many questions is left.
pub(super) const NO_NEWS: u32 = 30;
/// A peer that is busy for so many visits is left.
const VISITS: u32 = 5;
/// The longest that a busy peer can send us away for, in milliseconds.
const LONGEST_RETRY_MS: u32 = 60_000;

/// What a model consists of, from the signed catalogue.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Which model.
    pub root: ModelRoot,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of each chunk of [`CHUNK_BYTES`], the last one shorter.
    pub hashes: Vec<[u8; 32]>,
}

impl Manifest {
    pub(super) fn size_of(&self, chunk: u32) -> usize {
        let from = u64::from(chunk) * CHUNK_BYTES;
        CHUNK_BYTES.min(self.bytes.saturating_sub(from)) as usize
    }
}

/// Tells a running download of peers. Clones tell the same one.
#[derive(Debug, Clone)]
pub struct PeerSource(mpsc::Sender<PeerId>);

impl PeerSource {
    /// Names a connected peer that may have chunks. Whether there was room for it: a name too many is dropped.
    pub fn add_peer(&mut self, peer: PeerId) -> bool {
        self.0.try_send(peer).is_ok()
    }
}

/// What a source that is no peer (a server, say) needs to know of a download, and has to tell it. Clones are about the
/// same download.
#[derive(Clone)]
pub struct Beside(Arc<Shared>);

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

impl Beside {
    /// What is missing, and nobody was asked for.
    pub fn gaps(&self) -> Gaps {
        self.0.lock().gaps()
    }

    /// This source is asked for the chunk: peers need not be.
    pub fn claim(&self, chunk: u32) {
        self.0.lock().claim(chunk);
    }

    /// This source could not bring the chunk.
    pub fn release(&self, chunk: u32) {
        self.0.lock().release(chunk);
    }

    /// The chunk is here, and is not needed any more.
    pub fn found(&self, chunk: u32) {
        self.0.lock().found(chunk);
    }
}

/// A download under way. Dropping it ends all its streams; what it yielded is all that there is to resume from.
pub struct Download {
    shared: Arc<Shared>,
    names: mpsc::Receiver<PeerId>,
    source: PeerSource,
    peers: FuturesUnordered<BoxFuture<'static, ()>>,
    to_us: mpsc::Sender<Verified>,
    chunks: mpsc::Receiver<Verified>,
}

/// A chunk, whose hash was checked, and who sent it.
pub(super) type Verified = (u32, Vec<u8>, PeerId);

pub(super) struct Shared {
    network: Arc<dyn Network>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) manifest: Manifest,
    scheduler: Mutex<Scheduler>,
    /// For peers that speak bitswap, and not our own protocol.
    foreign: OnceLock<Exchange>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

impl Download {
    /// Begins, or goes on where `has` (one bit per chunk) says that an earlier download got to.
    ///
    /// `None` if the manifest names more than [`MAX_CHUNKS`], or not one hash for each chunk of its size.
    pub fn new(
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        _permit: &Permit<HelpOthers>,
        manifest: Manifest,
        has: &[u8],
    ) -> Option<Self> {
        let chunks = manifest.hashes.len();
        if chunks > MAX_CHUNKS || chunks as u64 != manifest.bytes.div_ceil(CHUNK_BYTES) {
            return None;
        }
        let mut salt = [0; 8];
        random.fill(&mut salt);
        let scheduler = Scheduler::new(chunks as u32, has, u64::from_le_bytes(salt));
        let (to_names, names) = mpsc::channel(MAX_PEERS);
        let (to_us, chunks) = mpsc::channel(0);
        Some(Self {
            shared: Arc::new(Shared {
                network,
                clock,
                manifest,
                scheduler: Mutex::new(scheduler),
                foreign: OnceLock::new(),
            }),
            names,
            source: PeerSource(to_names),
            peers: FuturesUnordered::new(),
            to_us,
            chunks,
        })
    }

    /// Asks peers that do not speak our own protocol by bitswap. It counts for visits that begin later.
    pub fn speak_bitswap(&self, exchange: Exchange) {
        // Whoever says it twice has one exchange, as the node has one network.
        let _ = self.shared.foreign.set(exchange);
    }

    /// Names peers to the download while it runs.
    pub fn source(&self) -> PeerSource {
        self.source.clone()
    }

    /// For a source that is no peer, and fetches beside them.
    pub fn beside(&self) -> Beside {
        Beside(Arc::clone(&self.shared))
    }

    /// The next verified chunk: its number, its bytes, and who sent it. `None` when all are there, or no peer is left
    /// that could bring what is missing; when a peer is named later it can be called again.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(u32, Vec<u8>, PeerId)> {
        futures::future::poll_fn(|context| {
            use std::task::Poll;
            while let Poll::Ready(Some(peer)) = self.names.poll_next_unpin(context) {
                if self.shared.lock().add(peer) {
                    let (shared, to_us) = (Arc::clone(&self.shared), self.to_us.clone());
                    self.peers
                        .push(boxed(async move { shared.peer(peer, to_us).await }));
                }
            }
            loop {
                if let Poll::Ready(Some(chunk)) = self.chunks.poll_next_unpin(context) {
                    return Poll::Ready(Some(chunk));
                }
                match self.peers.poll_next_unpin(context) {
                    Poll::Ready(Some(())) => {}
                    // The last one may have handed over a chunk as it left.
                    Poll::Ready(None) => {
                        return match self.chunks.poll_next_unpin(context) {
                            Poll::Ready(chunk) => Poll::Ready(chunk),
                            Poll::Pending => Poll::Ready(None),
                        };
                    }
                    // A peer may have handed its chunk over in this very poll; its wake-up brings us back.
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// How a visit to a peer ended.
pub(super) enum Visit {
    /// Nothing more is to be had from it.
    Over,
    /// It sent what nobody honest sends.
    Wrong,
    /// It asked to come back after so many milliseconds.
    Later(u32),
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits a peer until nothing more is to be had from it.
    async fn peer(&self, peer: PeerId, mut to_us: mpsc::Sender<Verified>) {
        for _ in 0..VISITS {
            let opening = self.network.open(peer, CHUNKS);
            let visited = match within(&*self.clock, ANSWER_MS, opening).await {
                Some(Ok(stream)) => self.visit(stream, &mut to_us).await,
                Some(Err(NetworkError::NotSpoken { .. })) => match self.foreign.get() {
                    Some(exchange) => self.visit_foreign(peer, exchange, &mut to_us).await,
                    None => break,
                },
                _ => break,
            };
            match visited {
                Visit::Over => break,
                Visit::Wrong => return self.lock().ban(peer),
                Visit::Later(ms) => {
                    // Until then others are asked for what this one was.
                    self.lock().remove(peer);
                    let ms = ms.clamp(1, LONGEST_RETRY_MS).into();
                    self.clock.sleep(Duration::from_millis(ms)).await;
                    if !self.lock().add(peer) {
                        return;
                    }
                }
            }
        }
        self.lock().remove(peer);
    }

    async fn visit(&self, stream: MessageStream, to_us: &mut mpsc::Sender<Verified>) -> Visit {
        let MessageStream {
            peer,
            mut sender,
            mut receiver,
        } = stream;
        let clock = &*self.clock;
        let mut partial = BTreeMap::<u32, Vec<u8>>::new();
        // A cancelled chunk may be on its way already: its frames are no offence.
        let mut cancelled = std::collections::BTreeSet::new();
        let (mut questions, mut asked_bits) = (0, true);
        let mut outbox = vec![Message::Ask(self.manifest.root)];
        loop {
            for chunk in self.lock().cancelled(peer) {
                partial.remove(&chunk);
                cancelled.insert(chunk);
                outbox.push(Message::Cancel(chunk));
            }
            while let Some(chunk) = self.lock().next(peer, clock.monotonic_ms()) {
                outbox.push(Message::Want(chunk));
            }
            for message in outbox.drain(..) {
                let sending = sender.send(message.to_bytes());
                if !matches!(within(clock, ANSWER_MS, sending).await, Some(Ok(()))) {
                    return Visit::Over;
                }
            }
            if !self.lock().awaits(peer) && !asked_bits {
                if self.lock().is_whole() || questions >= NO_NEWS {
                    return Visit::Over;
                }
                clock.sleep(Duration::from_millis(NEWS_MS)).await;
                questions += 1;
                asked_bits = true;
                outbox.push(Message::Ask(self.manifest.root));
                continue;
            }
            let Some(Some(Ok(bytes))) = within(clock, ANSWER_MS, receiver.next()).await else {
                return Visit::Over;
            };
            match Message::from_bytes(&bytes) {
                Some(Message::Have(bits)) if asked_bits => {
                    asked_bits = false;
                    self.lock().has(peer, bits);
                }
                Some(Message::Frame { chunk, offset, bytes }) if self.lock().asked(peer, chunk) => {
                    let size = self.manifest.size_of(chunk);
                    let whole = partial.entry(chunk).or_default();
                    let left = size.saturating_sub(whole.len());
                    if offset as usize != whole.len() || bytes.len() != left.min(FRAME_BYTES) {
                        return Visit::Wrong;
                    }
                    whole.extend_from_slice(&bytes);
                    if whole.len() < size {
                        continue;
                    }
                    let Some(whole) = partial.remove(&chunk) else {
                        return Visit::Wrong;
                    };
                    let hash: [u8; 32] = Sha256::digest(&whole).into();
                    if self.manifest.hashes.get(chunk as usize) != Some(&hash) {
                        return Visit::Wrong;
                    }
                    questions = 0;
                    let first = self.lock().received(peer, chunk, clock.monotonic_ms());
                    if first && to_us.send((chunk, whole, peer)).await.is_err() {
                        return Visit::Over;
                    }
                }
                Some(Message::Frame { chunk, .. }) if cancelled.contains(&chunk) => {}
                Some(Message::NotHere(chunk)) if self.lock().asked(peer, chunk) => {
                    partial.remove(&chunk);
                    self.lock().not_here(peer, chunk);
                }
                Some(Message::NotHere(chunk)) if cancelled.contains(&chunk) => {}
                Some(Message::Busy(retry_ms)) => return Visit::Later(retry_ms),
                _ => return Visit::Wrong,
            }
        }
    }
}
