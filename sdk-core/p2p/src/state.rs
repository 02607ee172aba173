//! What the driver knows, and the handles read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwaainet_network::{Address, PeerId, PeerInfo, Reach};

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

/// Shared by the driver and every handle.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) peers: BTreeMap<PeerId, Connected>,
    /// Where we listen, without our id.
    pub(crate) listening: Vec<Address>,
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn traffic(&self, peer: PeerId) -> Option<Arc<Traffic>> {
        self.lock()
            .peers
            .get(&peer)
            .map(|connected| Arc::clone(&connected.traffic))
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
