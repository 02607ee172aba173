//! Time: the system's clocks, and one thread that wakes sleepers whatever executor they run on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kwaainet_platform::{BoxFuture, Clock};

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    timers: Arc<Timers>,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            timers: Arc::default(),
        }
    }
}

impl Clock for SystemClock {
    fn monotonic_ms(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1000.0
    }

    fn unix_ms(&self) -> u64 {
        // A clock before 1970 is broken; zero lets everything that has an end seem young, nothing panics.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    #[cfg(unix)]
    fn cpu_ms(&self) -> Option<f64> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 * 1000.0 + time.tv_nsec as f64 / 1e6)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(Sleep {
            until: Instant::now() + duration,
            timers: Arc::clone(&self.timers),
            polled: false,
        })
    }
}

/// Pending at least once, so that a zero sleep lets others run.
struct Sleep {
    until: Instant,
    timers: Arc<Timers>,
    polled: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let over = Instant::now() >= self.until;
        if self.polled && over {
            return Poll::Ready(());
        }
        self.polled = true;
        if over {
            cx.waker().wake_by_ref();
        } else {
            self.timers.add(self.until, cx.waker().clone());
        }
        Poll::Pending
    }
}

#[derive(Debug, Default)]
struct Timers {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    timers: BinaryHeap<Reverse<Timer>>,
    /// Breaks ties, because wakers have no order.
    added: u64,
    running: bool,
}

#[derive(Debug)]
struct Timer {
    at: (Instant, u64),
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, until: Instant, waker: Waker) {
        let mut queue = self.lock();
        queue.added += 1;
        let at = (until, queue.added);
        queue.timers.push(Reverse(Timer { at, waker }));
        if !queue.running {
            let timers = Arc::clone(self);
            let started = thread::Builder::new()
                .name("kwaainet-timer".to_owned())
                .spawn(move || timers.work());
            queue.running = started.is_ok();
            if !queue.running {
                // Without a thread to wait on, every sleeper polls: slow, but nothing hangs.
                while let Some(Reverse(timer)) = queue.timers.pop() {
                    timer.waker.wake();
                }
            }
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Ends itself after a minute without sleepers.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            while let Some(timer) = queue.timers.peek().filter(|timer| timer.0.at.0 <= now) {
                timer.0.waker.wake_by_ref();
                queue.timers.pop();
            }
            let wait = queue.timers.peek().map_or(Duration::from_secs(60), |timer| {
                timer.0.at.0.saturating_duration_since(now)
            });
            let (woken, timeout) = self
                .changed
                .wait_timeout(queue, wait)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() && queue.timers.is_empty() {
                queue.running = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn sleeps_last_as_long_as_asked_and_end_in_order() {
        let clock = SystemClock::default();
        let begin = clock.monotonic_ms();
        let order = Mutex::new(Vec::new());
        block_on(async {
            let nap = |ms: u64| {
                let (clock, order) = (&clock, &order);
                async move {
                    clock.sleep(Duration::from_millis(ms)).await;
                    order.lock().unwrap().push(ms);
                }
            };
            futures::join!(nap(60), nap(20), nap(40), nap(0));
        });
        assert!(clock.monotonic_ms() - begin >= 60.0);
        assert_eq!(order.into_inner().unwrap(), [0, 20, 40, 60]);
    }

    #[test]
    fn a_zero_sleep_lets_another_task_run_first() {
        let clock = SystemClock::default();
        let log = Mutex::new(Vec::new());
        block_on(async {
            let first = async {
                clock.sleep(Duration::ZERO).await;
                log.lock().unwrap().push("first");
            };
            let second = async { log.lock().unwrap().push("second") };
            futures::join!(first, second);
        });
        assert_eq!(log.into_inner().unwrap(), ["second", "first"]);
    }

    #[cfg(unix)]
    #[test]
    fn processor_time_counts_work_and_not_waiting() {
        let clock = SystemClock::default();
        let (wall, cpu) = (clock.monotonic_ms(), clock.cpu_ms().unwrap());
        let mut sum = 0_u64;
        while clock.cpu_ms().unwrap() - cpu < 20.0 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert_ne!(sum, 1);
        assert!(clock.monotonic_ms() - wall >= 5.0);
        assert!(clock.unix_ms() > 1_600_000_000_000);
    }
}
