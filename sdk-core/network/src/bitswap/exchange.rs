//! Hearing peers: what downloads asked of them goes there, and what they want to whoever serves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc;
use futures::future::{Either, FutureExt, Shared, WeakShared, select};
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use kwaainet_platform::{BoxFuture, Clock, boxed};
use sha2::{Digest, Sha256};

use super::message::LEAF;
use super::wants::Wanting;
use super::{BITSWAP, Message, leaf_of};
use crate::swarm::within;
use crate::{MessageStream, Network, NetworkError, PeerId};

/// Streams that are read at once, of all peers. Each may hold a message of 4 MiB.
const STREAMS: usize = 16;
/// Streams of one peer that are read at once. Helia opens one for every message, several at a time.
const STREAMS_PER_PEER: usize = 8;
/// A stream that brings nothing for so long is ended; whoever has something to say opens another.
const SILENT_MS: u64 = 30_000;
/// Blocks that may still come after the session that asked for them has ended, of all peers.
const LATE: usize = 1024;

/// Speaks bitswap with every peer that does, for all downloads and for what is given away. Clones are the same one.
///
/// It is one thing because bitswap is: peers answer on streams of their own, which also bring what they want. It hears
/// them for as long as a download asks somebody, or [`Self::serve`] runs; otherwise this node does not speak bitswap.
#[derive(Clone)]
pub struct Exchange(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) network: Arc<dyn Network>,
    pub(super) clock: Arc<dyn Clock>,
    asked: Mutex<Asked>,
    pub(super) wanting: Mutex<Wanting>,
    hearing: Mutex<Option<WeakShared<BoxFuture<'static, Ended>>>>,
}

/// How hearing ended.
type Ended = Result<(), NetworkError>;

#[derive(Default)]
struct Asked {
    sessions: BTreeMap<u64, Asking>,
    next: u64,
    /// Asked for by a session that is over: when it comes it is no offence.
    late: VecDeque<(PeerId, [u8; 32])>,
}

/// A session, as the exchange sees it.
struct Asking {
    peer: PeerId,
    to: mpsc::Sender<Answer>,
    /// Blocks that may come, and how often.
    awaited: BTreeMap<[u8; 32], u32>,
}

/// What a message of a peer says to one session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Blocks that the session awaited, by the SHA-256 that they really have.
    pub(crate) blocks: Vec<([u8; 32], Vec<u8>)>,
    /// Raw leaves that the peer says it has, or has not.
    pub(crate) presences: Vec<([u8; 32], bool)>,
    /// Whether something came that nobody honest sends, such as a block that nobody asked for: a wrong one is that.
    pub(crate) wrong: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange over this network, of which there is to be one.
    pub fn new(network: Arc<dyn Network>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            network,
            clock,
            asked: Mutex::default(),
            wanting: Mutex::default(),
            hearing: Mutex::default(),
        }))
    }

    /// Begins to ask a peer. Its answers come while somebody polls [`Self::hear`].
    pub(crate) fn session(&self, peer: PeerId) -> Session<'_> {
        let mut asked = self.0.asked();
        let (to, from) = mpsc::channel(0);
        let id = asked.next;
        asked.next += 1;
        let asking = Asking {
            peer,
            to,
            awaited: BTreeMap::new(),
        };
        asked.sessions.insert(id, asking);
        Session {
            inner: &self.0,
            peer,
            id,
            from,
        }
    }

    /// Hears peers: the same work for everybody who needs it, done by whoever is there.
    pub(crate) fn hear(&self) -> Shared<BoxFuture<'static, Ended>> {
        let mut hearing = self.0.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = hearing.as_ref().and_then(WeakShared::upgrade) {
            return running;
        }
        let inner = Arc::clone(&self.0);
        let begun = boxed(async move { inner.hear().await }).shared();
        *hearing = begun.downgrade();
        begun
    }
}

impl Inner {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hear(&self) -> Ended {
        let mut incoming = self.network.serve(BITSWAP)?;
        let mut open = BTreeMap::<PeerId, usize>::new();
        let mut readers = FuturesUnordered::<BoxFuture<'_, PeerId>>::new();
        let mut next = incoming.next();
        loop {
            let event = if readers.is_empty() {
                Either::Left(next.as_mut().await)
            } else {
                match select(next.as_mut(), readers.next()).await {
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
                Either::Left(Some(stream)) => {
                    drop(next);
                    next = incoming.next();
                    let peer = stream.peer;
                    let of_peer = open.entry(peer).or_default();
                    // A stream too many is dropped, which the peer sees.
                    if readers.len() < STREAMS && *of_peer < STREAMS_PER_PEER {
                        *of_peer += 1;
                        readers.push(boxed(async move {
                            self.read(stream).await;
                            peer
                        }));
                    }
                    open.retain(|_, count| *count > 0);
                }
            }
        }
    }

    async fn read(&self, stream: MessageStream) {
        let MessageStream {
            peer,
            sender,
            mut receiver,
        } = stream;
        // Answers go on a stream of ours.
        drop(sender);
        while let Some(Some(Ok(bytes))) = within(&*self.clock, SILENT_MS, receiver.next()).await {
            let Some(message) = Message::from_bytes(&bytes) else {
                return self.hand_over(peer, vec![None], &[]).await;
            };
            self.wanting().take_in(peer, &message);
            // Hashed before anything is locked. A prefix of another kind names another block, even of the same bytes.
            let blocks = message.blocks.iter().map(|block| {
                let hash: [u8; 32] = Sha256::digest(block.data).into();
                (block.prefix == LEAF).then_some((hash, block.data))
            });
            let presences = message.presences.iter();
            let presences: Vec<_> = presences
                .filter_map(|presence| Some((leaf_of(presence.cid)?, presence.here)))
                .collect();
            self.hand_over(peer, blocks.collect(), &presences).await;
        }
    }

    /// Hands over what a peer answers. It waits for who asked, so that a peer is read no faster than its blocks are
    /// taken.
    async fn hand_over(
        &self,
        peer: PeerId,
        blocks: Vec<Option<([u8; 32], &[u8])>>,
        presences: &[([u8; 32], bool)],
    ) {
        if blocks.is_empty() && presences.is_empty() {
            return;
        }
        let sorted = self.asked().sort(peer, blocks, presences);
        for (mut to, answer) in sorted {
            // The session may have ended meanwhile.
            let _ = to.send(answer).await;
        }
    }
}

impl Asked {
    /// What is for whom. A block that is `None` is of no kind that is ever asked for.
    fn sort(
        &mut self,
        peer: PeerId,
        blocks: Vec<Option<([u8; 32], &[u8])>>,
        presences: &[([u8; 32], bool)],
    ) -> Vec<(mpsc::Sender<Answer>, Answer)> {
        let Self { sessions, late, .. } = self;
        let mut heard = BTreeMap::<u64, Answer>::new();
        let mut wrong = false;
        for block in blocks {
            let awaiting = block.and_then(|(hash, data)| {
                let taken = sessions.iter_mut().find_map(|(id, session)| {
                    let times = session.awaited.get_mut(&hash).filter(|_| session.peer == peer)?;
                    *times -= 1;
                    if *times == 0 {
                        session.awaited.remove(&hash);
                    }
                    Some(*id)
                });
                if let Some(id) = taken {
                    heard.entry(id).or_default().blocks.push((hash, data.to_vec()));
                    return Some(());
                }
                let at = late.iter().position(|one| *one == (peer, hash))?;
                late.remove(at).map(drop)
            });
            wrong |= awaiting.is_none();
        }
        let of_peer = sessions.iter().filter(|(_, session)| session.peer == peer);
        of_peer
            .map(|(id, session)| {
                let mut heard = heard.remove(id).unwrap_or_default();
                heard.presences = presences.to_vec();
                heard.wrong = wrong;
                (session.to.clone(), heard)
            })
            .filter(|(_, heard)| *heard != Answer::default())
            .collect()
    }
}

/// What one download asks of one peer.
pub(crate) struct Session<'a> {
    inner: &'a Inner,
    peer: PeerId,
    id: u64,
    from: mpsc::Receiver<Answer>,
}

impl Session<'_> {
    /// Once more, the peer may send the block with this SHA-256.
    pub(crate) fn await_block(&self, hash: [u8; 32]) {
        if let Some(session) = self.inner.asked().sessions.get_mut(&self.id) {
            *session.awaited.entry(hash).or_default() += 1;
        }
    }

    /// Whether nobody else asks the peer for anything.
    pub(crate) fn is_alone(&self) -> bool {
        let asked = self.inner.asked();
        let of_peer = |session: &&Asking| session.peer == self.peer;
        asked.sessions.values().filter(of_peer).count() < 2
    }

    /// Says something to the peer, on a stream that ends with it: Helia breaks one that is quiet for ten seconds.
    pub(crate) async fn say(&self, message: &Message<'_>) -> Result<(), NetworkError> {
        let mut stream = self.inner.network.open(self.peer, BITSWAP).await?;
        stream.sender.send(message.to_bytes()).await
    }

    /// What the peer answers.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        self.from.next().await
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut asked = self.inner.asked();
        let Some(session) = asked.sessions.remove(&self.id) else {
            return;
        };
        let peer = session.peer;
        asked
            .late
            .extend(session.awaited.into_keys().map(|hash| (peer, hash)));
        while asked.late.len() > LATE {
            asked.late.pop_front();
        }
    }
}
