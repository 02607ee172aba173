//! A small pool of threads for the kernels.
//!
//! One token of a small model is some two hundred parallel steps of a few microseconds each, so a step must cost
//! less than waking a thread: workers look for the next step for [`SPIN`] before they park. The CPU cap is a share
//! of processor time, and spinning counts, which is why the spin is that short.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kwaainet_platform::Parallel;

/// Time that a worker looks for work before it sleeps: about the cost of waking a thread on Linux.
const SPIN: Duration = Duration::from_micros(30);
/// Set in `gate` while a job takes in workers; the other bits count those inside.
const OPEN: usize = 1 << (usize::BITS - 1);

/// Threads that wait for pieces of a computation. The calling thread works too.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose job is running.
    running: Mutex<()>,
}

type Piece<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// The job; written only while the gate is closed and nobody is inside.
    piece: UnsafeCell<Option<Piece<'static>>>,
    count: AtomicUsize,
    next: AtomicUsize,
    gate: AtomicUsize,
    /// Number of jobs so far, by which a worker notices a new one.
    epoch: AtomicU32,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[expect(unsafe_code, reason = "thread glue")]
// SAFETY: every field but `piece` is Sync by itself. `piece` is written by the thread that holds `running`, while
// the gate is closed with nobody inside, and read by workers that are inside; opening the gate (Release) and
// entering it (Acquire) order the two.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadPool {
    /// A pool in which `width` pieces run side by side: `width - 1` threads and the caller.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(width: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            piece: UnsafeCell::new(None),
            count: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            epoch: AtomicU32::new(0),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Self {
            shared,
            workers: Vec::new(),
            running: Mutex::new(()),
        };
        for number in 1..width.max(1) {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new()
                .name(format!("kwaainet-{number}"))
                .spawn(move || shared.work())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }
}

impl Parallel for ThreadPool {
    fn width(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, count: usize, piece: Piece<'_>) {
        // Somebody else's job has the threads, or there are none: the caller does its pieces alone.
        let running = match self.running.try_lock() {
            Ok(running) => Some(running),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if running.is_none() || count < 2 || self.workers.is_empty() {
            return (0..count).for_each(piece);
        }
        let open = self.shared.open(count, piece);
        self.shared.take_pieces(piece);
        drop(open);
        if let Some(panic) = lock(&self.shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.lock));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics were handed to their callers.
            drop(worker.join());
        }
    }
}

/// Closes the gate and waits until the last worker has left, on unwinding too: the piece lives no longer than that.
struct OpenJob<'a>(&'a Shared);

impl Drop for OpenJob<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut rounds = 0_u32;
        while self.0.gate.load(Ordering::Acquire) != 0 {
            rounds = rounds.saturating_add(1);
            if rounds < 2000 {
                std::hint::spin_loop();
            } else {
                // The worker that we wait for may need this processor.
                thread::yield_now();
            }
        }
    }
}

impl Shared {
    #[expect(unsafe_code, reason = "thread glue")]
    fn open<'a>(&'a self, count: usize, piece: Piece<'_>) -> OpenJob<'a> {
        // SAFETY: only the lifetime changes. Workers use the piece only between entering and leaving the gate, and
        // the `OpenJob` returned here closes the gate and waits until all have left before `run` returns or unwinds.
        let piece = unsafe { std::mem::transmute::<Piece<'_>, Piece<'static>>(piece) };
        // SAFETY: the caller holds `running`, the gate is closed and nobody is inside (the last `OpenJob` waited).
        unsafe { *self.piece.get() = Some(piece) };
        self.count.store(count, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        *lock(&self.panic) = None;
        self.gate.store(OPEN, Ordering::SeqCst);
        // After the gate has opened, so that no worker comes too early and then waits for the next job.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.wake.notify_all();
        }
        OpenJob(self)
    }

    fn enter(&self) -> bool {
        let mut gate = self.gate.load(Ordering::Relaxed);
        while gate & OPEN != 0 {
            match self
                .gate
                .compare_exchange_weak(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => gate = now,
            }
        }
        false
    }

    fn take_pieces(&self, piece: Piece<'_>) {
        let count = self.count.load(Ordering::Relaxed);
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            piece(at);
        }
    }

    #[expect(unsafe_code, reason = "thread glue")]
    fn work(&self) {
        let mut seen = 0;
        while let Some(epoch) = self.wait_for_job(seen) {
            // Read before entering: at worst a worker enters a job again and finds no piece left.
            seen = epoch;
            if !self.enter() {
                continue; // all pieces were taken before this worker woke
            }
            // SAFETY: we are inside the gate, so the piece was written before and lives until we leave.
            let piece = unsafe { *self.piece.get() };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                if let Some(piece) = piece {
                    self.take_pieces(piece);
                }
            }));
            if let Err(panic) = outcome {
                *lock(&self.panic) = Some(panic);
            }
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for another job than `seen` and returns its number; `None` when the pool ends.
    fn wait_for_job(&self, seen: u32) -> Option<u32> {
        let found = |epoch| (!self.stop.load(Ordering::SeqCst)).then_some(epoch);
        let begin = Instant::now();
        while begin.elapsed() < SPIN {
            for _ in 0..64 {
                let epoch = self.epoch.load(Ordering::SeqCst);
                if epoch != seen {
                    return found(epoch);
                }
                std::hint::spin_loop();
            }
        }
        let mut guard = lock(&self.lock);
        // The one who opens a job reads `sleepers` after raising `epoch`, we the other way round: one sees the other.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.epoch.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
        found(self.epoch.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_piece_runs_exactly_once_many_times_over() {
        let pool = ThreadPool::new(4).unwrap();
        for round in 0..5_000 {
            let count = round % 37;
            let runs: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            pool.run(count, &|at| {
                runs[at].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1),
                "round {round}"
            );
            if round % 500 == 0 {
                thread::sleep(Duration::from_millis(1)); // lets the workers park
            }
        }
    }

    #[test]
    fn two_callers_and_a_nested_call_all_finish() {
        let pool = ThreadPool::new(3).unwrap();
        let sum = AtomicU64::new(0);
        let job = || {
            for _ in 0..200 {
                pool.run(10, &|_| {
                    pool.run(3, &|at| {
                        sum.fetch_add(at as u64, Ordering::Relaxed);
                    });
                });
            }
        };
        thread::scope(|scope| {
            scope.spawn(job);
            scope.spawn(job);
        });
        assert_eq!(sum.into_inner(), 2 * 200 * 10 * 3);
    }

    #[test]
    fn several_threads_take_part() {
        let pool = ThreadPool::new(2).unwrap();
        let names = Mutex::new(std::collections::BTreeSet::new());
        pool.run(20, &|_| {
            names
                .lock()
                .unwrap()
                .insert(format!("{:?}", thread::current().id()));
            thread::sleep(Duration::from_millis(2));
        });
        assert_eq!(names.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2).unwrap();
        for bad in 0..8 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|at| {
                    thread::sleep(Duration::from_micros(200));
                    assert_ne!(at, bad, "on purpose");
                });
            }));
            assert!(outcome.is_err());
        }
        let sum = AtomicU64::new(0);
        pool.run(8, &|at| {
            sum.fetch_add(at as u64, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }

    #[cfg(unix)]
    #[test]
    fn an_idle_pool_uses_no_processor_time() {
        use kwaainet_platform::Clock as _;
        let clock = crate::platform::SystemClock::default();
        let pool = ThreadPool::new(4).unwrap();
        pool.run(64, &|_| ());
        thread::sleep(Duration::from_millis(20));
        let before = clock.cpu_ms().unwrap();
        thread::sleep(Duration::from_millis(200));
        // Other tests of this process run beside this one, so compare with all processors spinning: 3 * 200 ms.
        assert!(clock.cpu_ms().unwrap() - before < 500.0);
        drop(pool);
    }
}
