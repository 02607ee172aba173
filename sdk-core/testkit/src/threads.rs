//! Threads without a pool.

use std::sync::atomic::{AtomicUsize, Ordering};

use kwaainet_platform::Parallel;

/// Threads that are made anew for every computation and take its pieces in whatever order they come; it counts the
/// computations.
///
/// ```
/// use kwaainet_platform::Parallel as _;
/// let threads = kwaainet_testkit::NewThreads::new(2);
/// threads.run(8, &|piece| assert!(piece < 8));
/// assert_eq!((threads.width(), threads.computations()), (2, 1));
/// ```
#[derive(Debug)]
pub struct NewThreads {
    width: usize,
    computations: AtomicUsize,
}

impl NewThreads {
    /// So many at a time.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            computations: AtomicUsize::new(0),
        }
    }

    /// How often [`Parallel::run`] was called.
    pub fn computations(&self) -> usize {
        self.computations.load(Ordering::Relaxed)
    }
}

impl Parallel for NewThreads {
    fn width(&self) -> usize {
        self.width
    }

    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.computations.fetch_add(1, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.width {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= count {
                            break;
                        }
                        piece(at);
                    }
                });
            }
        });
    }
}
