//! No more threads than the processor cap pays for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kwaainet_platform::Parallel;

/// The host's threads, of which only so many compute at the same time.
///
/// Under a cap of a fifth of two processors, one thread that works two fifths of the time gets as much done as two
/// that work one fifth: it wakes nobody up and waits for nobody. Where the scheduler wakes both on one processor
/// (measured in Chromium on two virtual processors: each ran 5 s and stood in the queue for 4 s), it gets more done.
pub(super) struct ThreadLimit {
    inner: Arc<dyn Parallel>,
    most: AtomicUsize,
    /// One thread is faster just now.
    alone: AtomicBool,
}

impl ThreadLimit {
    pub(super) fn new(inner: Arc<dyn Parallel>) -> Self {
        let most = AtomicUsize::new(inner.width().max(1));
        Self {
            inner,
            most,
            alone: AtomicBool::new(false),
        }
    }

    /// From the next computation on; between 1 and what the host has.
    pub(super) fn set(&self, most: usize) {
        let most = most.clamp(1, self.inner.width().max(1));
        self.most.store(most, Ordering::Relaxed);
    }

    /// Whether the next computations are made by one thread, whatever the limit.
    pub(super) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Relaxed);
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Parallel for ThreadLimit {
    /// What the host has: scratch memory is laid out for it, and the limit may be raised later.
    fn width(&self) -> usize {
        self.inner.width()
    }

    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let most = self.most();
        if most == 1 || self.alone.load(Ordering::Relaxed) {
            (0..count).for_each(piece);
        } else if most >= self.inner.width() || most >= count {
            self.inner.run(count, piece);
        } else {
            let next = AtomicUsize::new(0);
            self.inner.run(most, &|_| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    piece(at);
                }
            });
        }
    }

    fn helpers_ms(&self) -> Option<f64> {
        self.inner.helpers_ms()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Remembers how many pieces it was asked to run side by side.
    struct Asked(Mutex<Vec<usize>>);

    impl Parallel for Asked {
        fn width(&self) -> usize {
            4
        }

        fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
            self.0.lock().unwrap().push(count);
            (0..count).rev().for_each(piece);
        }
    }

    #[test]
    fn every_piece_runs_once_on_as_many_threads_as_are_allowed() {
        let asked = Arc::new(Asked(Mutex::default()));
        let limit = ThreadLimit::new(Arc::clone(&asked) as _);
        for (most, count, expected) in [
            (4, 9, Some(9)),
            (9, 9, Some(9)),
            (3, 9, Some(3)),
            (3, 2, Some(2)),
            (1, 9, None),
            (0, 9, None),
        ] {
            limit.set(most);
            let runs: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            limit.run(count, &|at| {
                runs[at].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
            assert_eq!(asked.0.lock().unwrap().pop(), expected, "{most} of {count}");
        }
        assert_eq!(limit.width(), 4);
    }
}
