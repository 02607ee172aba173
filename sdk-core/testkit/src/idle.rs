//! Time that passes when nobody has anything else to do: waits of minutes take none, and are in order.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::poll_fn;
use kwaainet_platform::{BoxFuture, Clock, boxed};

/// A clock that [`IdleClock::run`] moves on.
#[derive(Debug, Default)]
pub struct IdleClock {
    unix_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now_ms: f64,
    sleepers: Vec<(f64, Waker)>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl IdleClock {
    /// A clock at monotonic zero whose wall clock shows `unix_ms`.
    pub fn new(unix_ms: u64) -> Self {
        Self {
            unix_ms,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jumps to when the next sleeper wakes. Panics if nobody sleeps.
    pub fn advance(&self) {
        let mut state = self.lock();
        let next = state
            .sleepers
            .iter()
            .map(|(due, _)| *due)
            .fold(f64::INFINITY, f64::min);
        assert!(next.is_finite(), "everybody waits, and nobody for the time");
        state.now_ms = next;
        let (woken, asleep) = std::mem::take(&mut state.sleepers)
            .into_iter()
            .partition(|(due, _)| *due <= next);
        state.sleepers = asleep;
        drop(state);
        let woken: Vec<(f64, Waker)> = woken;
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Runs a future to its end. Time passes whenever it waits for nothing else.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if !woken.0.swap(false, Ordering::AcqRel) {
                self.advance();
                continue;
            }
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
    }
}

impl Clock for IdleClock {
    fn monotonic_ms(&self) -> f64 {
        self.lock().now_ms
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms.saturating_add(self.monotonic_ms() as u64)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let due = self.monotonic_ms() + duration.as_secs_f64() * 1000.0;
        boxed(poll_fn(move |context| {
            let mut state = self.lock();
            if state.now_ms >= due {
                return Poll::Ready(());
            }
            state.sleepers.push((due, context.waker().clone()));
            Poll::Pending
        }))
    }
}
