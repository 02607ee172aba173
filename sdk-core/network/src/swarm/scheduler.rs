//! Which chunk is asked of whom, and when. No stream and no clock: it is told what happened, and at which time.

use std::collections::{BTreeMap, BTreeSet};

use kwaainet_types::CHUNK_BYTES;

use super::wire::bit;
use crate::PeerId;

/// Chunks asked of a peer at once before anything is known of it: one on its way while the next is asked for.
const FIRST_WINDOW: usize = 2;
/// Chunks asked of a peer at once at most: the memory that one peer can hold, in MiB.
pub(super) const MAX_WINDOW: usize = 8;
/// The window holds what came in so many milliseconds, so that a fast peer never waits for a question.
const WINDOW_MS: f64 = 1000.0;
/// When so few chunks are missing, those on their way are asked of a second peer too.
const END_GAME: usize = 8;
/// Chunks asked of all peers of a download at once: the memory that it can hold, in MiB. Phones download too.
pub(super) const MAX_IN_FLIGHT: usize = 32;
/// Peers of one download. No more than [`MAX_IN_FLIGHT`], so that each can be asked for a chunk.
pub(super) const MAX_PEERS: usize = 32;

/// A peer's part in the download.
#[derive(Debug)]
struct Peer {
    bits: Vec<u8>,
    in_flight: BTreeSet<u32>,
    window: usize,
    /// Bytes per millisecond, averaged over the last few chunks.
    rate: Option<f64>,
    last_ms: f64,
}

/// Missing chunks that nobody was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// A peer has them, and will be asked.
    pub had: Vec<u32>,
    /// No peer has them.
    pub lacked: Vec<u32>,
}

/// The state of one download from many peers.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// What is missing, each with its place in this node's own order.
    missing: BTreeMap<u32, u32>,
    /// Of the missing ones, those that somebody who is no peer was asked for.
    elsewhere: BTreeSet<u32>,
    peers: BTreeMap<PeerId, Peer>,
    banned: BTreeSet<PeerId>,
}

impl Scheduler {
    /// `salt` differs between nodes: equally rare chunks are then fetched in another order by each, and can be swapped.
    pub(super) fn new(chunks: u32, has: &[u8], salt: u64) -> Self {
        // The finaliser of SplitMix64: neighbours end far apart.
        let place = |chunk: u32| {
            let mixed = (u64::from(chunk) ^ salt).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) as u32
        };
        Self {
            missing: (0..chunks)
                .filter(|chunk| !bit(has, *chunk))
                .map(|chunk| (chunk, place(chunk)))
                .collect(),
            elsewhere: BTreeSet::new(),
            peers: BTreeMap::new(),
            banned: BTreeSet::new(),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    pub(super) fn misses(&self, chunk: u32) -> bool {
        self.missing.contains_key(&chunk)
    }

    /// Takes a peer in, unless it is banned, here already, or one too many.
    pub(super) fn add(&mut self, peer: PeerId) -> bool {
        if self.banned.contains(&peer) || self.peers.contains_key(&peer) || self.peers.len() >= MAX_PEERS {
            return false;
        }
        let fresh = Peer {
            bits: vec![],
            in_flight: BTreeSet::new(),
            window: FIRST_WINDOW,
            rate: None,
            last_ms: 0.0,
        };
        self.peers.insert(peer, fresh);
        true
    }

    /// The peer is gone; what it was asked for is free for others.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// The peer sent what nobody honest sends. It is not asked again in this download.
    pub(super) fn ban(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        self.banned.insert(peer);
    }

    pub(super) fn has(&mut self, peer: PeerId, bits: Vec<u8>) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.bits = bits;
        }
    }

    /// The peer does not have the chunk after all.
    pub(super) fn not_here(&mut self, peer: PeerId, chunk: u32) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.in_flight.remove(&chunk);
            if let Some(byte) = peer.bits.get_mut(chunk as usize / 8) {
                *byte &= !(1 << (chunk % 8));
            }
        }
    }

    /// The next chunk to ask of the peer, which counts as asked from now on: the rarest that nobody else was asked
    /// for; near the end, one that only one other was asked for.
    pub(super) fn next(&mut self, asked: PeerId, now_ms: f64) -> Option<u32> {
        let peer = self.peers.get(&asked)?;
        if peer.in_flight.len() >= peer.window || !self.has_room(asked, peer) {
            return None;
        }
        let most_askers = usize::from(self.missing.len() <= END_GAME);
        let (_, chunk) = self
            .missing
            .iter()
            .filter(|(chunk, _)| bit(&peer.bits, **chunk) && !peer.in_flight.contains(chunk))
            .filter_map(|(chunk, place)| {
                let count =
                    |test: &dyn Fn(&Peer) -> bool| self.peers.values().filter(|peer| test(peer)).count();
                let askers = count(&|peer| peer.in_flight.contains(chunk))
                    + usize::from(self.elsewhere.contains(chunk));
                let holders = count(&|peer| bit(&peer.bits, *chunk));
                (askers <= most_askers).then_some(((askers, holders, *place), *chunk))
            })
            .min()?;
        let peer = self.peers.get_mut(&asked)?;
        if peer.in_flight.is_empty() {
            peer.last_ms = now_ms;
        }
        peer.in_flight.insert(chunk);
        Some(chunk)
    }

    /// Whether one more chunk on its way is not too many for all peers together. A peer's first one may take the last
    /// place; another only while a place is left for everybody else who could bring something.
    fn has_room(&self, asked: PeerId, peer: &Peer) -> bool {
        let on_their_way = || self.peers.values().flat_map(|peer| &peer.in_flight);
        let mut kept = 0;
        if !peer.in_flight.is_empty() {
            let wanted: BTreeSet<u32> = on_their_way().copied().collect();
            let free = |chunk: &&u32| !wanted.contains(chunk) && !self.elsewhere.contains(chunk);
            let waits = |(id, peer): &(&PeerId, &Peer)| {
                **id != asked
                    && peer.in_flight.is_empty()
                    && self
                        .missing
                        .keys()
                        .filter(free)
                        .any(|chunk| bit(&peer.bits, *chunk))
            };
            kept = self.peers.iter().filter(waits).count();
        }
        on_their_way().count() + kept < MAX_IN_FLIGHT
    }

    /// A verified chunk came from the peer. Whether it is the first of its kind; a second one is dropped.
    pub(super) fn received(&mut self, from: PeerId, chunk: u32, now_ms: f64) -> bool {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.in_flight.remove(&chunk);
            let rate = CHUNK_BYTES as f64 / (now_ms - peer.last_ms).max(1.0);
            let rate = peer.rate.map_or(rate, |before| 0.75 * before + 0.25 * rate);
            peer.rate = Some(rate);
            peer.last_ms = now_ms;
            let window = (rate * WINDOW_MS / CHUNK_BYTES as f64) as usize;
            peer.window = window.clamp(FIRST_WINDOW, MAX_WINDOW);
        }
        self.missing.remove(&chunk).is_some()
    }

    /// What the peer was asked for and came from elsewhere. It does not count as asked any more.
    pub(super) fn cancelled(&mut self, peer: PeerId) -> Vec<u32> {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return vec![];
        };
        let gone = |chunk: &u32| !self.missing.contains_key(chunk);
        let cancelled = peer.in_flight.iter().copied().filter(gone).collect();
        peer.in_flight.retain(|chunk| !gone(chunk));
        cancelled
    }

    /// The chunk came by another way than a peer.
    pub(super) fn found(&mut self, chunk: u32) {
        self.missing.remove(&chunk);
        self.elsewhere.remove(&chunk);
    }

    /// Missing chunks that no peer was asked for, those apart that a peer has.
    pub(super) fn gaps(&self) -> Gaps {
        let (mut had, mut lacked) = (vec![], vec![]);
        for chunk in self.missing.keys().copied() {
            let any = |test: &dyn Fn(&Peer) -> bool| self.peers.values().any(test);
            if self.elsewhere.contains(&chunk) || any(&|peer| peer.in_flight.contains(&chunk)) {
                continue;
            }
            if any(&|peer| bit(&peer.bits, chunk)) {
                had.push(chunk);
            } else {
                lacked.push(chunk);
            }
        }
        Gaps { had, lacked }
    }

    /// Peers are not asked for the chunk, because somebody else was.
    pub(super) fn claim(&mut self, chunk: u32) {
        if self.missing.contains_key(&chunk) {
            self.elsewhere.insert(chunk);
        }
    }

    /// Undoes [`Self::claim`].
    pub(super) fn release(&mut self, chunk: u32) {
        self.elsewhere.remove(&chunk);
    }

    /// Whether the peer was asked for the chunk.
    pub(super) fn asked(&self, peer: PeerId, chunk: u32) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|peer| peer.in_flight.contains(&chunk))
    }

    /// Whether an answer of the peer is awaited.
    pub(super) fn awaits(&self, peer: PeerId) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|peer| !peer.in_flight.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    /// All chunks that peers are asked for while none comes, per peer.
    fn ask(scheduler: &mut Scheduler, peers: &[PeerId]) -> Vec<usize> {
        let mut asked = vec![0; peers.len()];
        loop {
            let before: usize = asked.iter().sum();
            for (count, peer) in asked.iter_mut().zip(peers) {
                while scheduler.next(*peer, 0.0).is_some() {
                    *count += 1;
                }
            }
            if asked.iter().sum::<usize>() == before {
                return asked;
            }
        }
    }

    #[test]
    fn many_fast_peers_together_hold_no_more_memory_than_few() {
        let peers: Vec<_> = (0..MAX_PEERS as u8)
            .map(|seed| Keypair::from_seed([seed; 32]).peer_id())
            .collect();
        for (count, expected) in [(1, 8), (4, 32), (7, 32), (32, 32)] {
            let some = &peers[..count];
            let mut scheduler = Scheduler::new(10_000, &[], 1);
            for peer in some {
                assert!(scheduler.add(*peer));
                scheduler.has(*peer, vec![0xff; 1250]);
                // A chunk in a millisecond makes the widest window.
                let first = scheduler.next(*peer, 0.0).unwrap();
                assert!(scheduler.received(*peer, first, 1.0));
            }
            let asked = ask(&mut scheduler, some);
            assert_eq!(asked.iter().sum::<usize>(), expected, "{count} peers");
            assert!(asked.iter().all(|asked| *asked >= 1), "{asked:?}");
        }
    }

    #[test]
    fn no_place_is_kept_for_peers_that_have_nothing_to_bring() {
        let peers: Vec<_> = (0..MAX_PEERS as u8)
            .map(|seed| Keypair::from_seed([seed; 32]).peer_id())
            .collect();
        let mut scheduler = Scheduler::new(1000, &[], 1);
        for peer in &peers {
            assert!(scheduler.add(*peer));
        }
        scheduler.has(peers[0], vec![0xff; 125]);
        // All others have what the first is asked for already.
        let first = scheduler.next(peers[0], 0.0).unwrap();
        for peer in &peers[1..] {
            let mut bits = vec![0; 125];
            bits[first as usize / 8] = 1 << (first % 8);
            scheduler.has(*peer, bits);
        }
        assert_eq!(ask(&mut scheduler, &peers)[0], FIRST_WINDOW - 1);
    }
}
