//! A visit to a peer of IPFS: the same download, in its language.

use std::collections::BTreeSet;
use std::pin::pin;

use futures::SinkExt;
use futures::channel::mpsc;
use futures::future::{Either, select};

use super::download::{ANSWER_MS, NEWS_MS, NO_NEWS, Shared, Verified, Visit};
use super::within;
use crate::PeerId;
use crate::bitswap::{Exchange, Message, Session, Want, Wanted, leaf_cid};

/// Chunks that a peer is asked about at once. Peers remember 1,024 wants, and these are few enough to leave room.
const ASKED_ABOUT: usize = 512;
/// A chunk below this size in bytes may come instead of word that it is there. (Boxo's limit, and Helia's.)
const SMALL: usize = 1024;
/// A peer that owes answers, and brings nothing for so long, is left. It is more than for our own protocol, whose frames
/// are smaller: three chunks may come in one message, which takes a minute at half a megabit per second.
const USELESS_MS: f64 = 60_000.0;
/// A peer that owes nothing, and brings nothing for so long, is left.
const NO_NEWS_MS: f64 = (NO_NEWS as u64 * NEWS_MS) as f64;

/// The chunks with each hash: a model may have equal ones, which are one block to bitswap.
struct Index(Vec<([u8; 32], u32)>);

impl Index {
    fn new(hashes: &[[u8; 32]]) -> Self {
        let mut all: Vec<_> = hashes.iter().copied().zip(0..).collect();
        all.sort_unstable();
        Self(all)
    }

    fn chunks(&self, hash: [u8; 32]) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(one, _)| *one < hash);
        let from = self.0.get(first..).unwrap_or_default();
        from.iter()
            .take_while(move |(one, _)| *one == hash)
            .map(|(_, chunk)| *chunk)
    }
}

/// What is known of one peer.
struct Foreign<'a> {
    session: Session<'a>,
    index: Index,
    /// The chunks that it said it has.
    bits: Vec<u8>,
    /// The first chunk that it was not asked about.
    unasked: u32,
    /// Whether it has is not answered yet.
    asked_about: BTreeSet<[u8; 32]>,
    /// Blocks that it was asked for.
    wanted: BTreeSet<[u8; 32]>,
}

impl Shared {
    /// Asks which chunks the peer has, then for those that the scheduler chooses, until nothing more is to be had from
    /// it. A peer that gets a chunk later says so by itself.
    pub(super) async fn visit_foreign(
        &self,
        peer: PeerId,
        exchange: &Exchange,
        to_us: &mut mpsc::Sender<Verified>,
    ) -> Visit {
        let mut foreign = Foreign {
            session: exchange.session(peer),
            index: Index::new(&self.manifest.hashes),
            bits: vec![0; self.manifest.hashes.len().div_ceil(8)],
            unasked: 0,
            asked_about: BTreeSet::new(),
            wanted: BTreeSet::new(),
        };
        let visit = {
            let asking = pin!(self.ask_foreign(peer, &mut foreign, to_us));
            match select(asking, exchange.hear()).await {
                Either::Left((visit, _)) => visit,
                // The node has left the network.
                Either::Right(_) => return Visit::Over,
            }
        };
        if foreign.session.is_alone() && !matches!(visit, Visit::Wrong) {
            // The peer need not remember what it was asked.
            let goodbye = Message {
                full: true,
                ..Message::default()
            };
            let _ = within(&*self.clock, ANSWER_MS, foreign.session.say(&goodbye)).await;
        }
        visit
    }

    async fn ask_foreign(
        &self,
        peer: PeerId,
        foreign: &mut Foreign<'_>,
        to_us: &mut mpsc::Sender<Verified>,
    ) -> Visit {
        let now_ms = || self.clock.monotonic_ms();
        let mut useful_ms = now_ms();
        loop {
            let wants = self.wants(peer, foreign);
            if !wants.is_empty() {
                let entries = wants.iter().map(|(cid, wanted)| Want {
                    cid,
                    wanted: *wanted,
                    send_dont_have: *wanted != Wanted::Nothing,
                });
                let message = Message {
                    wants: entries.collect(),
                    ..Message::default()
                };
                let saying = foreign.session.say(&message);
                if !matches!(within(&*self.clock, ANSWER_MS, saying).await, Some(Ok(()))) {
                    return Visit::Over;
                }
            }
            if self.lock().is_whole() {
                return Visit::Over;
            }
            let owes = !foreign.asked_about.is_empty() || self.lock().awaits(peer);
            if now_ms() - useful_ms >= if owes { USELESS_MS } else { NO_NEWS_MS } {
                return Visit::Over;
            }
            // Not longer: what others bring, or fail to bring, changes what this one is to be asked for.
            let heard = match within(&*self.clock, NEWS_MS, foreign.session.next()).await {
                Some(Some(heard)) => heard,
                Some(None) => return Visit::Over,
                None => continue,
            };
            for (hash, here) in heard.presences {
                if self.learn(peer, foreign, hash, here) {
                    useful_ms = now_ms();
                }
            }
            self.lock().has(peer, foreign.bits.clone());
            for (hash, bytes) in heard.blocks {
                useful_ms = now_ms();
                foreign.wanted.remove(&hash);
                foreign.asked_about.remove(&hash);
                for chunk in foreign.index.chunks(hash) {
                    let first = self.lock().received(peer, chunk, now_ms());
                    if first && to_us.send((chunk, bytes.clone(), peer)).await.is_err() {
                        return Visit::Over;
                    }
                }
            }
            if heard.wrong {
                return Visit::Wrong;
            }
        }
    }

    /// What is to be asked for now, and what no more.
    fn wants(&self, peer: PeerId, foreign: &mut Foreign<'_>) -> Vec<(Vec<u8>, Wanted)> {
        let Foreign {
            session,
            index,
            unasked,
            asked_about,
            wanted,
            ..
        } = foreign;
        let hash_of = |chunk: u32| self.manifest.hashes.get(chunk as usize).copied();
        let mut wants = vec![];
        let mut scheduler = self.lock();
        for hash in scheduler.cancelled(peer).into_iter().filter_map(hash_of) {
            let other = index.chunks(hash).any(|chunk| scheduler.asked(peer, chunk));
            if !other && wanted.remove(&hash) {
                wants.push((leaf_cid(&hash), Wanted::Nothing));
            }
        }
        while let Some(hash) = scheduler.next(peer, self.clock.monotonic_ms()).and_then(hash_of) {
            // Another chunk that is the same may have been asked for already.
            if wanted.insert(hash) {
                session.await_block(hash);
                wants.push((leaf_cid(&hash), Wanted::Block));
            }
        }
        while asked_about.len() < ASKED_ABOUT
            && let Some(hash) = hash_of(*unasked)
        {
            if scheduler.misses(*unasked) && asked_about.insert(hash) {
                if self.manifest.size_of(*unasked) <= SMALL {
                    session.await_block(hash);
                }
                wants.push((leaf_cid(&hash), Wanted::Have));
            }
            *unasked += 1;
        }
        wants
    }

    /// Whether the peer was asked whether it has the chunk, and answers now.
    fn learn(&self, peer: PeerId, foreign: &mut Foreign<'_>, hash: [u8; 32], here: bool) -> bool {
        for chunk in foreign.index.chunks(hash) {
            let mask = 1 << (chunk % 8);
            if let Some(byte) = foreign.bits.get_mut(chunk as usize / 8) {
                *byte = if here { *byte | mask } else { *byte & !mask };
            }
            if !here {
                self.lock().not_here(peer, chunk);
                foreign.wanted.remove(&hash);
            }
        }
        foreign.asked_about.remove(&hash)
    }
}
