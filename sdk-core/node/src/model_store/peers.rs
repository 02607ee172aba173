//! Peers and servers side by side: what is left to the servers while peers bring a model.
//!
//! Peers come first, because a site's server is paid by the site. But nobody is to wait for that: where peers would take
//! long, servers help.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kwaainet_network::swarm::{Beside, Download};
use kwaainet_platform::{BoxFuture, Clock};

/// Chunks that a server is asked for at once: few while peers have some, because they may get the others meanwhile; more
/// while nobody does, because every request takes a round trip.
const BESIDE_PEERS: usize = 4;
const ALONE: usize = 16;
/// Connected peers have so long to say what they have, before servers are asked.
const HEAD_START_MS: f64 = 1000.0;
/// When peers would take longer than this for the rest, servers help. A visitor does not wait longer for an answer on
/// principle (Nielsen, Response Times: The 3 Important Limits).
const PATIENCE_MS: f64 = 10_000.0;
/// Their speed is taken over so long: what was brought earlier says nothing of now, and what was brought in a moment
/// not much.
const WINDOW_MS: f64 = 3000.0;
const SHORTEST_MS: f64 = 250.0;

/// Peers that may have a model.
pub(crate) struct Peers<'a> {
    /// What they bring.
    pub(crate) download: Download,
    /// Names peers to it for as long as it is polled.
    pub(crate) finding: BoxFuture<'a, ()>,
    /// Whether anybody is connected already.
    pub(crate) any: bool,
}

impl std::fmt::Debug for Peers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("download", &self.download)
            .finish_non_exhaustive()
    }
}

impl Peers<'_> {
    pub(super) fn pace<'a>(&self, clock: &'a dyn Clock) -> Pace<'a> {
        let now = clock.monotonic_ms();
        Pace {
            clock,
            beside: self.download.beside(),
            began_ms: now,
            waits_until_ms: if self.any { now + HEAD_START_MS } else { now },
            brought: Mutex::default(),
        }
    }
}

/// How fast peers bring chunks.
pub(super) struct Pace<'a> {
    clock: &'a dyn Clock,
    beside: Beside,
    began_ms: f64,
    waits_until_ms: f64,
    brought: Mutex<Brought>,
}

#[derive(Default)]
struct Brought {
    bytes: u64,
    recent: VecDeque<(f64, u64)>,
}

impl Pace<'_> {
    fn lock(&self) -> MutexGuard<'_, Brought> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Peers brought so many bytes more.
    pub(super) fn brought(&self, bytes: u64) {
        let now = self.clock.monotonic_ms();
        let mut brought = self.lock();
        brought.bytes = brought.bytes.saturating_add(bytes);
        brought.recent.push_back((now, bytes));
    }

    /// What they brought in all.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Of the chunks that are missing, those that servers are to be asked for now.
    pub(super) fn left_to_servers(&self, missing: Vec<usize>, missing_bytes: u64) -> Vec<usize> {
        let gaps = self.beside.gaps();
        let nobody_has_any = gaps.lacked.len() == missing.len();
        if nobody_has_any && self.clock.monotonic_ms() < self.waits_until_ms {
            return Vec::new();
        }
        let most = if nobody_has_any { ALONE } else { BESIDE_PEERS };
        let mut left = gaps.lacked;
        if !self.is_fast_enough(missing_bytes) {
            left.extend(gaps.had);
            left.sort_unstable();
            if left.is_empty() {
                // All of it was asked of peers, and does not come.
                return missing.into_iter().take(most).collect();
            }
        }
        left.into_iter().take(most).map(|chunk| chunk as usize).collect()
    }

    fn is_fast_enough(&self, missing_bytes: u64) -> bool {
        let now = self.clock.monotonic_ms();
        let mut brought = self.lock();
        while brought.recent.front().is_some_and(|(at, _)| now - at > WINDOW_MS) {
            brought.recent.pop_front();
        }
        if brought.bytes == 0 {
            return now < self.waits_until_ms;
        }
        let recent: u64 = brought.recent.iter().map(|(_, bytes)| bytes).sum();
        let taken_ms = (now - self.began_ms).clamp(SHORTEST_MS, WINDOW_MS);
        missing_bytes as f64 * taken_ms <= recent as f64 * PATIENCE_MS
    }

    /// A server is asked for these chunks.
    pub(super) fn claim(&self, chunks: &[usize]) {
        numbers(chunks).for_each(|chunk| self.beside.claim(chunk));
    }

    /// The server has answered, or will not: of what it was asked for, this is still missing.
    pub(super) fn settle(&self, chunks: &[usize], missing: &[usize]) {
        for (number, chunk) in numbers(chunks).zip(chunks) {
            if missing.binary_search(chunk).is_ok() {
                self.beside.release(number);
            } else {
                self.beside.found(number);
            }
        }
    }
}

/// (A model has at most 2^20 chunks.)
fn numbers(chunks: &[usize]) -> impl Iterator<Item = u32> {
    chunks
        .iter()
        .map(|chunk| u32::try_from(*chunk).unwrap_or(u32::MAX))
}
