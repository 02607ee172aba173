//! When something is done again: regularly while it works, less and less often while it does not.

use kwaainet_platform::Random;

use crate::record::random::below;

/// The first pause after something did not work, which doubles each time …
const FIRST_PAUSE_MS: u64 = 1_000;
/// … up to this one.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// Times are milliseconds of the monotonic clock. A new one is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due_ms: u64,
    done_ms: Option<u64>,
    failures: u32,
}

impl Schedule {
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.wait_ms(now_ms) == 0
    }

    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        self.due_ms.saturating_sub(now_ms)
    }

    /// It is wanted now, but not sooner after the last time than `pause_ms`.
    pub(super) fn sooner(&mut self, now_ms: u64, pause_ms: u64) {
        let earliest = self
            .done_ms
            .map_or(now_ms, |done| now_ms.max(done.saturating_add(pause_ms)));
        self.due_ms = self.due_ms.min(earliest);
    }

    /// It was done: again after `again_ms`, or soon if it did not work. In both cases up to a quarter earlier.
    pub(super) fn done(&mut self, again_ms: Option<u64>, now_ms: u64, random: &dyn Random) {
        self.failures = if again_ms.is_some() {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let pause_ms = again_ms.unwrap_or_else(|| {
            let doublings = self.failures.saturating_sub(1).min(16);
            (FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS)
        });
        self.done_ms = Some(now_ms);
        self.due_ms = now_ms.saturating_add(pause_ms - below(pause_ms / 4 + 1, random));
    }
}

#[cfg(test)]
mod tests {
    use kwaainet_platform::SeededRandom;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let (mut schedule, random, mut now) = (Schedule::default(), SeededRandom::new(1), 0);
        assert!(schedule.is_due(now));
        for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| seconds * 1000) {
            schedule.done(None, now, &random);
            let wait = schedule.wait_ms(now);
            assert!((pause * 3 / 4..=pause).contains(&wait), "{wait} of {pause}");
            now += wait;
        }
        schedule.done(Some(120_000), now, &random);
        assert!((90_000..=120_000).contains(&schedule.wait_ms(now)));
        schedule.done(None, now, &random);
        assert!((750..=1000).contains(&schedule.wait_ms(now)));
    }

    #[test]
    fn what_is_wanted_sooner_keeps_its_distance() {
        let (mut schedule, random) = (Schedule::default(), SeededRandom::new(1));
        schedule.done(Some(120_000), 1_000, &random);
        schedule.sooner(2_000, 5_000);
        assert_eq!(schedule.wait_ms(2_000), 4_000);
        schedule.sooner(50_000, 5_000);
        assert!(schedule.is_due(50_000));
    }
}
