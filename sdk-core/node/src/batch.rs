//! Answers of one model that are made at the same time share one pass over its weights.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwaainet_engine::Generation;
use kwaainet_types::{Permit, RunAi};

/// How long the others are waited for: long against what an answer does between two steps (choosing a token, sending
/// it), short against a step.
const PATIENCE: Duration = Duration::from_millis(2);

/// Where the threads that make answers meet. The first one there computes for all.
///
/// A lone answer computes by itself and never waits, so a host with one thread may use this too.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Answers that are being made.
    answers: usize,
    is_computing: bool,
    last_ticket: u64,
    waiting: Vec<(u64, Generation)>,
    /// `None` if computing failed.
    done: Vec<(u64, Option<Generation>)>,
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One answer more.
    pub(crate) fn enter(&self) {
        let mut state = self.lock();
        state.answers = state.answers.saturating_add(1);
    }

    /// One answer less.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.answers = state.answers.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Computes what the answer needs next, with others that are there. `None` if that ended in a panic.
    pub(crate) fn compute(&self, permit: &Permit<RunAi>, mut generation: Generation) -> Option<Generation> {
        let mut state = self.lock();
        if state.answers <= 1 && !state.is_computing {
            drop(state);
            generation.compute_slice(permit);
            return Some(generation);
        }
        state.last_ticket = state.last_ticket.wrapping_add(1);
        let ticket = state.last_ticket;
        state.waiting.push((ticket, generation));
        self.changed.notify_all();
        loop {
            if let Some(at) = state.done.iter().position(|(of, _)| *of == ticket) {
                return state.done.swap_remove(at).1;
            }
            if state.is_computing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_computing = true;
            while state.waiting.len() < state.answers {
                let waited = self.changed.wait_timeout(state, PATIENCE);
                let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = next;
                if timeout.timed_out() {
                    break;
                }
            }
            let batch = std::mem::take(&mut state.waiting);
            drop(state);
            Computing::of(self, batch).run(permit);
            state = self.lock();
        }
    }
}

/// Answers under computation; hands them back also when that panics.
struct Computing<'a> {
    batch: &'a Batch,
    tickets: Vec<u64>,
    generations: Vec<Generation>,
}

impl<'a> Computing<'a> {
    fn of(batch: &'a Batch, waiting: Vec<(u64, Generation)>) -> Self {
        let (tickets, generations) = waiting.into_iter().unzip();
        Self {
            batch,
            tickets,
            generations,
        }
    }

    fn run(mut self, permit: &Permit<RunAi>) {
        // Taken out: what a panic leaves of them is not to be used.
        let mut generations = std::mem::take(&mut self.generations);
        Generation::compute(permit, &mut generations.iter_mut().collect::<Vec<_>>());
        self.generations = generations;
    }
}

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        let mut state = self.batch.lock();
        state.is_computing = false;
        let mut generations = std::mem::take(&mut self.generations).into_iter();
        let done = self.tickets.iter().map(|ticket| (*ticket, generations.next()));
        state.done.extend(done);
        drop(state);
        self.batch.changed.notify_all();
    }
}
