//! Spare processors, lent by the host: native threads, or workers over shared memory in an isolated page.

use crate::{MaybeSend, MaybeSync};

/// Runs pieces of one computation side by side.
pub trait Parallel: MaybeSend + MaybeSync {
    /// How many pieces run at the same time, at least 1.
    fn width(&self) -> usize;

    /// Calls `piece(0)` to `piece(count - 1)`, each exactly once, and returns when all are done.
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync));

    /// Milliseconds that all threads but the calling one were awake so far, less those that the calling one slept
    /// in [`run`](Self::run) until they were done; where the host counts them.
    ///
    /// It stands in for processor time where [`Clock::cpu_ms`](crate::Clock::cpu_ms) is not to be had.
    fn helpers_ms(&self) -> Option<f64> {
        None
    }
}

/// One after the other, on the calling thread: what every host can do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequential;

impl Parallel for Sequential {
    fn width(&self) -> usize {
        1
    }

    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(piece);
    }

    fn helpers_ms(&self) -> Option<f64> {
        Some(0.0)
    }
}
