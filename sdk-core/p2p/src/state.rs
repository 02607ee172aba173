//! What the driver knows, and the handles read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kwaainet_network::{Address, PeerId, PeerInfo, Reach};
use libp2p::Multiaddr;

use crate::ids::{self, Scope};

/// What a relay does for others at the moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RelayLoad {
    /// Peers that keep a place here.
    pub reservations: usize,
    /// Connections that lead through here.
    pub circuits: usize,
}

/// Bytes of messages with one peer.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) address: Address,
    pub(crate) reach: Reach,
    pub(crate) traffic: Arc<Traffic>,
}

/// An address of ours.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) address: Address,
    /// What comes first, and whether it leads through a relay.
    pub(crate) rank: (Reverse<Scope>, bool),
}

/// Shared by the driver and every handle.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) peers: BTreeMap<PeerId, Connected>,
    /// Of connections and streams. A stream may come in before the driver has heard of its connection.
    traffic: BTreeMap<PeerId, Weak<Traffic>>,
    /// Where others reach us, without our id.
    pub(crate) ways: Vec<Way>,
    /// Who may see our address, where nobody else may.
    pub(crate) told_of: BTreeSet<libp2p::PeerId>,
    pub(crate) relay: RelayLoad,
    pub(crate) refusals: Refusals,
    pub(crate) closed: bool,
}

/// Sentences about who was refused, for people.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// The last ones, each once: who is refused tries again, and would fill a screen.
    last: VecDeque<String>,
    /// How many of them nobody has taken yet.
    new: usize,
}

impl Refusals {
    const LAST: usize = 16;

    pub(crate) fn note(&mut self, refusal: String) {
        if self.last.contains(&refusal) {
            return;
        }
        if self.last.len() >= Self::LAST {
            self.last.pop_front();
        }
        self.last.push_back(refusal);
        self.new = (self.new + 1).min(Self::LAST);
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        let told = self.last.len() - self.new;
        self.new = 0;
        self.last.iter().skip(told).cloned().collect()
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of a peer, as long as anybody counts.
    pub(crate) fn traffic(&self, peer: PeerId) -> Arc<Traffic> {
        self.lock().traffic(peer)
    }

    pub(crate) fn is_connected(&self, peer: PeerId) -> bool {
        self.lock().peers.contains_key(&peer)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let state = self.lock();
        let info = |(peer, connected): (&PeerId, &Connected)| PeerInfo {
            peer: *peer,
            address: connected.address.clone(),
            reach: connected.reach,
            sent: connected.traffic.sent.load(Ordering::Relaxed),
            received: connected.traffic.received.load(Ordering::Relaxed),
        };
        state.peers.iter().map(info).collect()
    }
}

impl State {
    /// Another way to us. Those that lead there from far away come first, and of them the direct ones: records have room
    /// for a few.
    pub(crate) fn add_way(&mut self, at: &Multiaddr) {
        let Some(address) = ids::address(&ids::without_peer(at.clone())) else {
            return;
        };
        if self.ways.iter().all(|known| known.address != address) {
            self.ways.push(Way {
                rank: (Reverse(ids::scope(at)), ids::is_relayed(at)),
                address,
            });
            self.ways.sort_by_key(|way| way.rank);
        }
    }

    pub(crate) fn remove_way(&mut self, at: &Multiaddr) {
        let address = ids::address(&ids::without_peer(at.clone()));
        self.ways.retain(|known| Some(&known.address) != address.as_ref());
    }

    pub(crate) fn traffic(&mut self, peer: PeerId) -> Arc<Traffic> {
        if let Some(counted) = self.traffic.get(&peer).and_then(Weak::upgrade) {
            return counted;
        }
        self.traffic.retain(|_, counted| counted.strong_count() > 0);
        let counted = Arc::new(Traffic::default());
        self.traffic.insert(peer, Arc::downgrade(&counted));
        counted
    }
}
