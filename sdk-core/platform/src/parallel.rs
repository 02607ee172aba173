//! Spare processors, lent by the host: native threads, or workers over shared memory in an isolated page.

use crate::{MaybeSend, MaybeSync};

/// Runs pieces of one computation side by side.
pub trait Parallel: MaybeSend + MaybeSync {
    /// How many pieces run at the same time, at least 1.
    fn width(&self) -> usize;

    /// Calls `piece(0)` to `piece(count - 1)`, each exactly once, and returns when all are done.
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync));
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
}
