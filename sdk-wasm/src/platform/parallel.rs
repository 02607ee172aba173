//! Spare processors: workers that share this module's memory, where the page is cross-origin isolated.
//!
//! Work is handed out with `std`'s own locks, which in a build with `+atomics` are `memory.atomic.wait32` and
//! `notify`. So the same code is tested natively with real threads and runs in a browser's workers.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwaainet_platform::Parallel;

/// Looks for work (or for its end) this often before a thread goes to sleep: some 50 us. A decode step is a few hundred
/// short computations in a row with little between them, and a wake-up for each costs more than it brings (measured in
/// Chromium on two processors: 79 tokens/s with 4,000 looks, 101 to 131 with 40,000, no more with 200,000); but threads
/// that spin for long take the processor from the page and collapse where processors are shared.
const SPINS: u32 = 40_000;

/// A piece takes milliseconds; whoever computes it twice as long as this has died. Twice, because a suspended machine or a
/// frozen tab uses up one such wait in which nobody could compute.
const PATIENCE: Duration = Duration::from_secs(2);

type Piece = dyn Fn(usize) + Sync;

/// One computation. Its pieces are taken by whoever is free.
struct Job {
    piece: *const Piece,
    count: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicBool,
}

// SAFETY: `piece` is `Sync`, and it is only called while the `run` that lent it waits (see `Job::work`).
#[expect(
    unsafe_code,
    reason = "thread glue: hands a borrowed closure to threads that outlive the borrow"
)]
unsafe impl Send for Job {}
// SAFETY: as above; everything else in it is atomic.
#[expect(
    unsafe_code,
    reason = "thread glue: hands a borrowed closure to threads that outlive the borrow"
)]
unsafe impl Sync for Job {}

impl Job {
    /// Takes pieces until none is left. True for the one who finished the last.
    fn work(&self) -> bool {
        let mut last = false;
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= self.count {
                return last;
            }
            let one = OneDone {
                job: self,
                last: &mut last,
            };
            // SAFETY: piece `at` has not been done, so `done` is below `count`, so `Pool::run` has not
            // returned and the closure it borrowed is alive.
            #[expect(unsafe_code, reason = "thread glue: see the invariant above")]
            let piece = unsafe { &*self.piece };
            piece(at);
            drop(one);
        }
    }

    fn is_over(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.count
    }
}

/// Counts a piece as done, also when it panics, so that nobody returns while others still compute.
struct OneDone<'a> {
    job: &'a Job,
    last: &'a mut bool,
}

impl Drop for OneDone<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.job.failed.store(true, Ordering::Release);
        }
        *self.last = self.job.done.fetch_add(1, Ordering::AcqRel) + 1 == self.job.count;
    }
}

/// What the threads of a pool share.
pub(crate) struct Shared {
    /// Milliseconds since some moment, which may be another for each thread.
    now_ms: fn() -> f64,
    /// Microseconds that helpers were awake, each up to when it last fell asleep, less those that the thread that
    /// they help slept while it waited for them.
    awake_us: AtomicI64,
    job: Mutex<Option<Arc<Job>>>,
    /// Rises with each job.
    turn: AtomicU32,
    asleep: AtomicUsize,
    begin: Condvar,
    end: Condvar,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(now_ms: fn() -> f64) -> Self {
        Self {
            now_ms,
            awake_us: AtomicI64::new(0),
            job: Mutex::default(),
            turn: AtomicU32::new(0),
            asleep: AtomicUsize::new(0),
            begin: Condvar::new(),
            end: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a helper: returns when the pool is closed.
    pub(crate) fn help(&self) {
        let mut seen = 0;
        let mut awake_since = (self.now_ms)();
        while !self.closed.load(Ordering::Acquire) {
            let Some(job) = self.next_job(&mut seen, &mut awake_since) else {
                continue;
            };
            if job.work() {
                // Under the lock, so that the waiting one cannot miss it between its look and its sleep.
                let _job = self.lock();
                self.end.notify_all();
            }
        }
    }

    fn next_job(&self, seen: &mut u32, awake_since: &mut f64) -> Option<Arc<Job>> {
        for _ in 0..SPINS {
            if self.turn.load(Ordering::Acquire) != *seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut job = self.lock();
        while self.turn.load(Ordering::Acquire) == *seen && !self.closed.load(Ordering::Acquire) {
            self.awake_us
                .fetch_add(self.us_since(*awake_since), Ordering::Relaxed);
            self.asleep.fetch_add(1, Ordering::Relaxed);
            job = self.begin.wait(job).unwrap_or_else(PoisonError::into_inner);
            self.asleep.fetch_sub(1, Ordering::Relaxed);
            *awake_since = (self.now_ms)();
        }
        *seen = self.turn.load(Ordering::Acquire);
        job.clone()
    }

    fn us_since(&self, then_ms: f64) -> i64 {
        (((self.now_ms)() - then_ms).max(0.0) * 1000.0) as i64
    }

    fn begin(&self, job: &Arc<Job>) {
        let mut slot = self.lock();
        *slot = Some(Arc::clone(job));
        self.turn.fetch_add(1, Ordering::Release);
        if self.asleep.load(Ordering::Relaxed) > 0 {
            self.begin.notify_all();
        }
    }

    fn wait_for_end(&self, job: &Job) {
        for _ in 0..SPINS {
            if job.is_over() {
                break;
            }
            std::hint::spin_loop();
        }
        let mut slot = self.lock();
        let mut waits = 0;
        while !job.is_over() {
            let slept_since = (self.now_ms)();
            let (again, waited) = self
                .end
                .wait_timeout(slot, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            slot = again;
            self.awake_us
                .fetch_sub(self.us_since(slept_since), Ordering::Relaxed);
            // A worker that traps says nothing; nobody may wait for it for ever.
            waits += u32::from(waited.timed_out());
            if waits == 2 && !job.is_over() {
                give_up();
            }
        }
        *slot = None;
    }
}

/// The computation cannot be completed, and its closure may still be in somebody's hands: nothing of ours may
/// run on. In a browser the host notices and starts a new node.
fn give_up() -> ! {
    if cfg!(panic = "unwind") {
        std::process::abort();
    }
    #[expect(clippy::panic, reason = "does not unwind here, and says why before the trap")]
    {
        panic!("a thread of the pool died in the middle of a computation");
    }
}

/// A pool: the calling thread and its helpers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    helpers: usize,
    /// One computation at a time; a piece that asks for another does it alone.
    busy: Mutex<()>,
}

impl Pool {
    pub(crate) fn new(shared: Arc<Shared>, helpers: usize) -> Self {
        Self {
            shared,
            helpers,
            busy: Mutex::new(()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _job = self.shared.lock();
        self.shared.closed.store(true, Ordering::Release);
        self.shared.begin.notify_all();
    }
}

impl Parallel for Pool {
    fn width(&self) -> usize {
        self.helpers + 1
    }

    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let alone = count < 2 || self.helpers == 0;
        let Some(_busy) = (!alone).then(|| self.busy.try_lock().ok()).flatten() else {
            return (0..count).for_each(piece);
        };
        let borrowed: *const (dyn Fn(usize) + Sync + '_) = piece;
        // SAFETY: only the lifetime changes. The job is over before this function returns, on every path
        // (`Over` waits also when a piece panics), and a job that is over calls the closure no more.
        #[expect(unsafe_code, reason = "thread glue: the borrow outlives the job")]
        let piece =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Piece>(borrowed) };
        let job = Arc::new(Job {
            piece,
            count,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        self.shared.begin(&job);
        let over = Over(&self.shared, &job);
        job.work();
        drop(over);
        #[expect(clippy::panic, reason = "passes on the panic of a piece")]
        if job.failed.load(Ordering::Acquire) {
            panic!("a piece of a computation panicked");
        }
    }

    fn helpers_ms(&self) -> Option<f64> {
        Some(self.shared.awake_us.load(Ordering::Relaxed) as f64 / 1000.0)
    }
}

/// Waits for the end of the job when it goes out of scope.
struct Over<'a>(&'a Shared, &'a Job);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.wait_for_end(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "native threads stand in for workers")]
    fn now_ms() -> f64 {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed().as_secs_f64() * 1000.0
    }

    fn with_pool(helpers: usize, test: impl FnOnce(&Pool)) {
        let shared = Arc::new(Shared::new(now_ms));
        let pool = Pool::new(Arc::clone(&shared), helpers);
        #[expect(clippy::disallowed_methods, reason = "native threads stand in for workers")]
        let threads: Vec<_> = (0..helpers)
            .map(|_| Arc::clone(&shared))
            .map(|shared| std::thread::spawn(move || shared.help()))
            .collect();
        test(&pool);
        drop(pool);
        for thread in threads {
            let _panicked = thread.join();
        }
    }

    #[test]
    fn every_piece_is_computed_exactly_once() {
        with_pool(3, |pool| {
            for round in 0..2_000_usize {
                let count = round % 17;
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, &|at| {
                    seen[at].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    seen.iter().all(|times| times.load(Ordering::Relaxed) == 1),
                    "round {round}"
                );
            }
        });
    }

    #[test]
    fn helpers_wake_after_a_long_sleep_and_really_help() {
        with_pool(2, |pool| {
            std::thread::sleep(Duration::from_millis(50));
            let threads = Mutex::new(std::collections::BTreeSet::new());
            pool.run(64, &|_| {
                std::thread::sleep(Duration::from_millis(1));
                threads
                    .lock()
                    .unwrap()
                    .insert(format!("{:?}", std::thread::current().id()));
            });
            assert_eq!(threads.lock().unwrap().len(), 3);
        });
    }

    #[test]
    fn a_piece_may_ask_for_a_computation_of_its_own() {
        with_pool(2, |pool| {
            let sum = AtomicUsize::new(0);
            pool.run(8, &|_| {
                pool.run(8, &|inner| {
                    sum.fetch_add(inner, Ordering::Relaxed);
                });
            });
            assert_eq!(sum.load(Ordering::Relaxed), 8 * 28);
        });
    }

    #[test]
    fn a_panic_of_a_piece_reaches_the_caller_and_the_pool_lives_on() {
        with_pool(1, |pool| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(32, &|at| assert!(at != 7, "piece 7"));
            }));
            assert!(caught.is_err());
            let sum = AtomicUsize::new(0);
            pool.run(4, &|at| {
                sum.fetch_add(at, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 6);
        });
    }

    #[test]
    fn time_counts_while_helpers_are_awake_and_only_then() {
        with_pool(1, |pool| {
            pool.run(2, &|_| std::thread::sleep(Duration::from_millis(20)));
            std::thread::sleep(Duration::from_millis(300));
            // The helper computed for 20 ms, and whoever was done first spun and slept until the other was.
            let once = pool.helpers_ms().unwrap();
            assert!((10.0..250.0).contains(&once), "{once} ms");
            std::thread::sleep(Duration::from_millis(50));
            let later = pool.helpers_ms().unwrap();
            assert!(later - once < 1.0, "{later} ms after {once} ms");
        });
    }
}
