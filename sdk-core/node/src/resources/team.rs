//! Whether other threads help just now.
//!
//! Where other programs keep processors busy, waiting for a thread that shares one with them can take longer than its help
//! saves. Nothing tells that beforehand, so both are tried, and the faster one is kept: steps of the same work take the same
//! time where nobody disturbs, so only uneven ones are a reason to try.

/// Steps that are compared with those of a trial.
const WINDOW: usize = 8;
/// The slowest quarter of a window takes at least so many times as long as the fastest step.
const UNEVEN: f64 = 1.25;
/// Steps of a trial; the first ones may be slow, as threads wake up.
const TRIAL: usize = 4;
/// What is tried has to be faster than this share of the time before.
const BETTER: f64 = 0.97;
/// Steps until the next trial, at first and at most: at the worst, trials are a twentieth of all steps.
const SHORTEST_REST: usize = 64;
const LONGEST_REST: usize = 512;

/// Chooses between one thread and all of them.
#[derive(Debug)]
pub(super) struct Team {
    alone: bool,
    /// Of the newest steps in milliseconds, in the mode that is in use.
    times: Vec<f64>,
    /// The window before this one was uneven: one that begins with a disturbance says little of what comes.
    is_doubtful: bool,
    /// What a step took before the trial that is under way.
    before: Option<f64>,
    /// Steps until the next trial may begin.
    rest: usize,
    next_rest: usize,
}

impl Default for Team {
    fn default() -> Self {
        Self {
            alone: false,
            times: Vec::with_capacity(WINDOW),
            is_doubtful: false,
            before: None,
            rest: 0,
            next_rest: SHORTEST_REST,
        }
    }
}

impl Team {
    /// Whether the next step is to be computed by one thread.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Takes what a step has taken that is of the same work as the others.
    pub(super) fn took(&mut self, ms: f64) {
        if let Some(before) = self.before {
            self.times.push(ms);
            if self.times.len() == TRIAL {
                self.judge(before);
            }
            return;
        }
        self.rest = self.rest.saturating_sub(1);
        self.times.push(ms);
        if self.times.len() < WINDOW {
            return;
        }
        let is_doubtful = self.alone || self.is_uneven();
        if self.rest == 0 && is_doubtful && self.is_doubtful {
            self.before = Some(median(&mut self.times));
            self.switch();
        } else {
            self.is_doubtful = is_doubtful;
            self.times.clear();
        }
    }

    fn judge(&mut self, before: f64) {
        self.before = None;
        if median(&mut self.times) < BETTER * before {
            self.next_rest = SHORTEST_REST;
            self.times.clear();
        } else {
            self.next_rest = self.next_rest.saturating_mul(2).min(LONGEST_REST);
            self.switch();
        }
        self.rest = self.next_rest;
    }

    fn switch(&mut self) {
        self.alone = !self.alone;
        self.is_doubtful = false;
        self.times.clear();
    }

    fn is_uneven(&self) -> bool {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.first(), sorted.get(WINDOW - WINDOW / 4)) {
            (Some(fast), Some(slow)) => *slow > UNEVEN * fast,
            _ => false,
        }
    }
}

/// Sorts them.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kwaainet_platform::{Random as _, SeededRandom};

    use super::*;

    /// Steps of two threads on two processors, one of which another program has for `busy` of a hundred time slices; what
    /// they took together, and how many were computed by one thread.
    fn steps(team: &mut Team, count: usize, busy: u64, random: &SeededRandom) -> (f64, usize) {
        let (mut total, mut alone) = (0.0, 0);
        for _ in 0..count {
            let noise = 1.0 + (random.next_u64() % 100) as f64 / 2000.0;
            // One thread takes 15 ms and moves to the processor that is free; of two, one may be held up for a slice.
            let held_up = random.next_u64() % 100 < busy;
            let ms = noise
                * if team.is_alone() {
                    15.0
                } else if held_up {
                    22.0
                } else {
                    9.0
                };
            alone += usize::from(team.is_alone());
            total += ms;
            team.took(ms);
        }
        (total, alone)
    }

    #[test]
    fn alike_steps_are_never_a_reason_to_try() {
        let (_, alone) = steps(&mut Team::default(), 10_000, 0, &SeededRandom::new(1));
        assert_eq!(alone, 0);
    }

    #[test]
    fn one_thread_is_chosen_where_others_hold_it_up_and_all_of_them_when_that_is_over() {
        let random = SeededRandom::new(2);
        let mut team = Team::default();
        for _ in 0..20 {
            steps(&mut team, 1000, 80, &random);
            let (total, _) = steps(&mut team, 1000, 80, &random);
            // At most a twentieth slower than one thread alone; two take 19.4 ms.
            assert!(total < 1.05 * 15.4 * 1000.0, "{total}");
            steps(&mut team, 1000, 0, &random);
            let (total, _) = steps(&mut team, 1000, 0, &random);
            assert!(total < 1.02 * 9.25 * 1000.0, "{total}");
        }
    }

    #[test]
    fn others_that_disturb_a_little_cost_little() {
        let random = SeededRandom::new(3);
        for busy in [5, 10, 20, 30] {
            let best = 1.025 * (9.0 + 13.0 * busy as f64 / 100.0);
            let (total, alone) = steps(&mut Team::default(), 10_000, busy, &random);
            assert!(total < 1.05 * best * 10_000.0, "{busy} %: {total}, {alone} alone");
        }
    }
}
