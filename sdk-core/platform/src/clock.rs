//! Time, lent by the host. Nothing in the core asks the operating system what time it is.

use std::sync::Mutex;
use std::time::Duration;

use crate::{BoxFuture, MaybeSend, MaybeSync, boxed};

/// Two clocks and a way to wait.
///
/// The monotonic clock orders and paces; the wall clock is shown to people and may jump.
pub trait Clock: MaybeSend + MaybeSync {
    /// Milliseconds since some fixed moment; never goes back.
    fn monotonic_ms(&self) -> f64;

    /// Milliseconds since 1970-01-01T00:00Z. Set by people, so it may jump either way.
    fn unix_ms(&self) -> u64;

    /// Milliseconds of processor time used by the whole process, where the host can tell.
    ///
    /// Browsers cannot; the resource manager then counts wall time while computing.
    fn cpu_ms(&self) -> Option<f64> {
        None
    }

    /// Waits at least `duration`. A zero duration lets other tasks (messages, cancellation) run first.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// A clock that moves only when told to, or when somebody sleeps on it.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Mutex<ManualState>,
}

#[derive(Debug, Default)]
struct ManualState {
    monotonic_ms: f64,
    unix_offset_ms: i64,
}

impl ManualClock {
    /// A clock at monotonic zero whose wall clock shows `unix_ms`.
    pub fn new(unix_ms: u64) -> Self {
        let clock = Self::default();
        clock.set_unix_ms(unix_ms);
        clock
    }

    /// Moves both clocks forward.
    pub fn advance(&self, duration: Duration) {
        self.lock().monotonic_ms += duration.as_secs_f64() * 1000.0;
    }

    /// Makes the wall clock jump, in either direction, as a user or NTP may.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        let mut state = self.lock();
        state.unix_offset_ms = unix_ms.cast_signed() - state.monotonic_ms as i64;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn monotonic_ms(&self) -> f64 {
        self.lock().monotonic_ms
    }

    fn unix_ms(&self) -> u64 {
        let state = self.lock();
        (state.monotonic_ms as i64)
            .saturating_add(state.unix_offset_ms)
            .max(0)
            .cast_unsigned()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.advance(duration);
        boxed(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_leaves_the_monotonic_clock_alone() {
        let clock = ManualClock::new(1_000_000);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.unix_ms(), 1_002_000);
        clock.set_unix_ms(5);
        assert_eq!(clock.unix_ms(), 5);
        assert!((clock.monotonic_ms() - 2000.0).abs() < f64::EPSILON);
    }
}
