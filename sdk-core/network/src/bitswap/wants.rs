//! What peers want, until they have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::task::Waker;

use kwaainet_types::CHUNK_BYTES;

use super::exchange::Inner;
use super::{MAX_WANTS, Message, Want, Wanted};
use crate::PeerId;

/// What all peers want.
#[derive(Debug, Default)]
pub(super) struct Wanting {
    /// Peers that are served at once; none while nobody serves.
    pub(super) most: usize,
    peers: BTreeMap<PeerId, Wants>,
    /// Wakes whoever serves.
    pub(super) server: Option<Waker>,
}

impl Inner {
    pub(super) fn wanting(&self) -> MutexGuard<'_, Wanting> {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanting {
    /// What a peer says that it wants. (A peer too many is not answered; it asks others.)
    pub(super) fn take_in(&mut self, peer: PeerId, message: &Message<'_>) {
        if !message.full && message.wants.is_empty()
            || !self.peers.contains_key(&peer) && self.peers.len() >= self.most
        {
            return;
        }
        self.peers.entry(peer).or_default().take_in(message);
        self.peers.retain(|_, wants| !wants.is_empty());
        if let Some(server) = self.server.take() {
            server.wake();
        }
    }

    /// Who wants something, apart from those that are being answered.
    pub(super) fn others(&self, answered: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let others = self.peers.keys().filter(|peer| !answered.contains(peer));
        others.copied().collect()
    }

    /// What a peer wants to know: CIDs, and whether it must be said that the block is not here.
    pub(super) fn haves(&mut self, peer: PeerId) -> BTreeMap<Vec<u8>, bool> {
        let wants = self.peers.get_mut(&peer);
        wants.map_or_else(BTreeMap::new, |wants| std::mem::take(&mut wants.haves))
    }

    /// The block that a peer wants next, likewise.
    pub(super) fn next_block(&mut self, peer: PeerId) -> Option<(Vec<u8>, bool)> {
        self.peers.get_mut(&peer)?.next_block()
    }

    /// About as much as still has to be sent to a peer, in bytes.
    pub(super) fn pending_bytes(&self, peer: PeerId) -> u32 {
        let blocks = self.peers.get(&peer).map_or(0, |wants| wants.blocks.len());
        u32::try_from(blocks as u64 * CHUNK_BYTES).unwrap_or(u32::MAX)
    }

    /// Whether the peer has all that it wanted; then it is forgotten.
    pub(super) fn is_done(&mut self, peer: PeerId) -> bool {
        if self.peers.get(&peer).is_some_and(|wants| !wants.is_empty()) {
            return false;
        }
        self.peers.remove(&peer);
        true
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }
}

/// A wantlist: at most [`MAX_WANTS`] CIDs, each with whether it must be said that the block is not here.
#[derive(Debug, Default)]
struct Wants {
    haves: BTreeMap<Vec<u8>, bool>,
    /// In the order in which they came.
    blocks: BTreeMap<u64, (Vec<u8>, bool)>,
    numbers: BTreeMap<Vec<u8>, u64>,
    next: u64,
}

impl Wants {
    fn is_empty(&self) -> bool {
        self.haves.is_empty() && self.blocks.is_empty()
    }

    fn take_in(&mut self, message: &Message<'_>) {
        if message.full {
            *self = Self::default();
        }
        for want in &message.wants {
            self.take(want);
        }
    }

    fn take(&mut self, want: &Want<'_>) {
        let known = self.numbers.contains_key(want.cid);
        let room = self.haves.len() + self.blocks.len() < MAX_WANTS;
        match want.wanted {
            Wanted::Nothing => {
                self.haves.remove(want.cid);
                if let Some(number) = self.numbers.remove(want.cid) {
                    self.blocks.remove(&number);
                }
            }
            // Who gets the block need not be told that it is here.
            Wanted::Have if room && !known => {
                self.haves.insert(want.cid.to_vec(), want.send_dont_have);
            }
            Wanted::Block if room && !known => {
                self.haves.remove(want.cid);
                self.numbers.insert(want.cid.to_vec(), self.next);
                self.blocks
                    .insert(self.next, (want.cid.to_vec(), want.send_dont_have));
                self.next += 1;
            }
            Wanted::Have | Wanted::Block => {}
        }
    }

    fn next_block(&mut self) -> Option<(Vec<u8>, bool)> {
        let (_, (cid, must)) = self.blocks.pop_first()?;
        self.numbers.remove(&cid);
        Some((cid, must))
    }
}
