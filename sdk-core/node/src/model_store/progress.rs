//! How far a fetch has come, and how fast it goes.

use std::collections::{BTreeSet, VecDeque};

use kwaainet_network::PeerId;
use kwaainet_platform::{Clock, MaybeSend, MaybeSync};
use kwaainet_types::{Progress, Stage};

/// Speed is told over so many seconds: long enough to be steady, short enough to follow a change.
const WINDOW_MS: f64 = 5000.0;
/// Reports are at least so far apart; a screen shows no more.
const INTERVAL_MS: f64 = 100.0;

/// Who wants to know.
pub(crate) trait OnProgress: MaybeSend + MaybeSync {
    fn progress(&self, progress: Progress);
}

impl<F: Fn(Progress) + MaybeSend + MaybeSync> OnProgress for F {
    fn progress(&self, progress: Progress) {
        self(progress);
    }
}

/// Counts bytes and reports them.
pub(crate) struct Meter<'a> {
    model: &'a str,
    total: u64,
    done: u64,
    clock: &'a dyn Clock,
    to: &'a dyn OnProgress,
    /// Bytes of this fetch that peers brought, and which peers.
    from_peers: u64,
    peers: BTreeSet<PeerId>,
    arrived: VecDeque<(f64, u64)>,
    told_at: Option<f64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(
        model: &'a str,
        done: u64,
        total: u64,
        clock: &'a dyn Clock,
        to: &'a dyn OnProgress,
    ) -> Self {
        Self {
            model,
            total,
            done,
            clock,
            to,
            from_peers: 0,
            peers: BTreeSet::new(),
            arrived: VecDeque::new(),
            told_at: None,
        }
    }

    /// Says at once what is being done.
    pub(crate) fn tell(&mut self, stage: Stage) {
        let now = self.clock.monotonic_ms();
        self.told_at = Some(now);
        self.to.progress(Progress {
            model: self.model.to_owned(),
            stage,
            done: self.done,
            total: self.total,
            from_peers: self.from_peers,
            peers: u32::try_from(self.peers.len()).unwrap_or(u32::MAX),
            bytes_per_second: self.speed(now).filter(|_| stage == Stage::Fetch),
        });
    }

    /// The bytes that are told of next came from a peer.
    pub(crate) fn brought(&mut self, peer: PeerId, bytes: u64) {
        self.from_peers = self.from_peers.saturating_add(bytes);
        self.peers.insert(peer);
    }

    /// So many bytes more arrived and were verified; with them it is so many in all.
    pub(crate) fn verified(&mut self, bytes: u64, done: u64) {
        let now = self.clock.monotonic_ms();
        self.done = done;
        self.arrived.push_back((now, bytes));
        while self.arrived.front().is_some_and(|(at, _)| now - at > WINDOW_MS) {
            self.arrived.pop_front();
        }
        let due = self.told_at.is_none_or(|told| now - told >= INTERVAL_MS);
        if due || self.done >= self.total {
            self.tell(Stage::Fetch);
        }
    }

    fn speed(&self, now: f64) -> Option<f64> {
        let (first, _) = self.arrived.front()?;
        let seconds = (now - first) / 1000.0;
        // The first piece arrived before its own time was taken.
        let bytes: u64 = self.arrived.iter().skip(1).map(|(_, bytes)| bytes).sum();
        (seconds > 0.25).then(|| bytes as f64 / seconds)
    }
}
