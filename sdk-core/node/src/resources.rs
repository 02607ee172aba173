//! How much of the device the node may take: memory, storage, processors.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwaainet_platform::{Parallel, Platform};
use kwaainet_types::ResourceLimits;

pub(crate) use self::paced::Paced;
use self::team::Team;
use self::threads::ThreadLimit;
use crate::NodeError;
use crate::cancel::Stop;

mod paced;
mod team;
mod threads;

const MIB: u64 = 1 << 20;

/// Processor time that may be saved up while idle, as milliseconds of the allowed share. It makes up for timers that
/// fire late (browsers: up to 16 ms, 100 ms on a busy machine), and is the longest burst above the cap.
const MOST_CREDIT_MS: f64 = 100.0;

/// The longest stretch between two looks at the clock that is believed. A longer one is a suspended machine or a
/// frozen tab: nothing was computed and nothing was earned in it. The slowest single step measured takes 2 seconds
/// (prefill of 64 tokens on a phone-class core), hence some margin.
const LONGEST_STRETCH_MS: f64 = 10_000.0;

/// Sleeps are cut into pieces of this length, so that a raised cap takes effect soon.
const LONGEST_SLEEP_MS: f64 = 250.0;

/// A shorter sleep costs more in waking up than it holds back; the debt waits for the next step. (Browsers round
/// timers up to 4 ms.)
const SHORTEST_SLEEP_MS: f64 = 5.0;

/// Keeps the node under its caps.
pub struct ResourceManager {
    platform: Platform,
    threads: Arc<ThreadLimit>,
    state: Mutex<State>,
}

impl std::fmt::Debug for ResourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceManager")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A token bucket: it fills with allowed processor time and is emptied by used processor time.
#[derive(Debug)]
struct State {
    limits: ResourceLimits,
    /// Milliseconds of processor time; negative is a debt that is slept off before the next step.
    balance_ms: f64,
    /// When the bucket was last filled, on the monotonic clock.
    filled_at_ms: f64,
    /// The process's processor time that has been paid for, where the host can tell.
    paid_cpu_ms: f64,
    busy_ms: f64,
    team: Team,
    /// Answers that are at a step now.
    steps: usize,
}

/// A stretch of computing that has begun.
#[derive(Debug)]
pub(crate) struct Busy {
    since_ms: f64,
    helpers_ms: Option<f64>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ResourceManager {
    /// Watches over this host.
    pub fn new(platform: Platform, limits: ResourceLimits) -> Self {
        let now = platform.clock.monotonic_ms();
        let paid_cpu_ms = platform.clock.cpu_ms().unwrap_or_default();
        let manager = Self {
            threads: Arc::new(ThreadLimit::new(Arc::clone(&platform.parallel))),
            platform,
            state: Mutex::new(State {
                limits,
                balance_ms: 0.0,
                filled_at_ms: now,
                paid_cpu_ms,
                busy_ms: 0.0,
                team: Team::default(),
                steps: 0,
            }),
        };
        manager.limit_threads(limits);
        manager
    }

    /// The host's threads, as many of them as the caps allow: what an engine is to compute with.
    pub fn parallel(&self) -> Arc<dyn Parallel> {
        Arc::clone(&self.threads) as _
    }

    /// Threads that compute at the same time under the caps in force.
    pub fn threads(&self) -> usize {
        self.threads.most()
    }

    fn limit_threads(&self, limits: ResourceLimits) {
        self.threads.set(self.rate(limits).ceil() as usize);
    }

    /// The caps in force.
    pub fn limits(&self) -> ResourceLimits {
        lock(&self.state).limits
    }

    /// Sets the caps.
    pub fn set_limits(&self, limits: ResourceLimits) {
        let mut state = lock(&self.state);
        self.settle(&mut state);
        state.limits = limits;
        state.balance_ms = state.balance_ms.min(self.most_credit(limits));
        self.limit_threads(limits);
    }

    /// The memory cap in bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.limits().memory).saturating_mul(MIB)
    }

    /// The storage cap in bytes.
    pub fn storage_bytes(&self) -> u64 {
        u64::from(self.limits().storage).saturating_mul(MIB)
    }

    /// Milliseconds of processor time used for models so far.
    pub fn busy_ms(&self) -> f64 {
        lock(&self.state).busy_ms
    }

    /// Processors that may be kept busy, on average: the cap is a share of all of them.
    fn rate(&self, limits: ResourceLimits) -> f64 {
        f64::from(limits.cpu.clamp(1, 100)) / 100.0 * self.platform.processors.max(1) as f64
    }

    fn most_credit(&self, limits: ResourceLimits) -> f64 {
        MOST_CREDIT_MS * self.rate(limits)
    }

    /// Adds what was earned and takes what was used since the last look; returns what was used, where the host can
    /// tell. Only the monotonic clock is asked, so the wall clock may jump.
    ///
    /// All of the process's time is paid for, not only that between `begin` and `end`: threads that look for the
    /// next step, the server and its sockets are seen from outside as the node's work too.
    fn settle(&self, state: &mut State) -> Option<f64> {
        let now = self.platform.clock.monotonic_ms();
        let elapsed = (now - state.filled_at_ms).clamp(0.0, LONGEST_STRETCH_MS);
        state.filled_at_ms = now;
        state.balance_ms += elapsed * self.rate(state.limits);
        let cpu = self.platform.clock.cpu_ms()?;
        let used = (cpu - state.paid_cpu_ms).max(0.0);
        state.paid_cpu_ms = cpu;
        state.balance_ms -= used;
        Some(used)
    }

    /// Starts to count.
    pub(crate) fn begin(&self) -> Busy {
        let mut state = lock(&self.state);
        self.settle(&mut state);
        // While idle, credit is limited; what is earned during the coming step is not, or long steps would be
        // paid twice.
        state.balance_ms = state.balance_ms.min(self.most_credit(state.limits));
        Busy {
            since_ms: state.filled_at_ms,
            helpers_ms: self.threads.helpers_ms(),
        }
    }

    /// Pays for what was computed since `begin`.
    ///
    /// Where the host cannot tell processor time, the calling thread counts as busy for the whole stretch, and the
    /// others for as long as they were awake, or for all of it if that is not known either.
    pub(crate) fn end(&self, busy: &Busy) {
        let mut state = lock(&self.state);
        let used = self.settle(&mut state).unwrap_or_else(|| {
            let wall = (state.filled_at_ms - busy.since_ms).clamp(0.0, LONGEST_STRETCH_MS);
            let helpers = match (busy.helpers_ms, self.threads.helpers_ms()) {
                (Some(before), Some(after)) => (after - before).max(-wall),
                _ => wall * self.threads().saturating_sub(1) as f64,
            };
            let used = wall + helpers;
            state.balance_ms -= used;
            used
        });
        state.busy_ms += used;
    }

    /// Computes a step of an answer, a token after the first if `is_token`: on one thread if that is faster just now.
    pub(crate) fn step<T>(&self, is_token: bool, step: impl FnOnce() -> (T, usize)) -> T {
        let busy = self.begin();
        let is_lone = {
            let mut state = lock(&self.state);
            state.steps = state.steps.saturating_add(1);
            let is_lone = is_token && state.steps == 1;
            self.threads.set_alone(is_lone && state.team.is_alone());
            is_lone
        };
        let (output, evaluated) = step();
        self.end(&busy);
        let mut state = lock(&self.state);
        let was_lone = is_lone && state.steps == 1;
        state.steps = state.steps.saturating_sub(1);
        if was_lone && evaluated == 1 && self.threads() > 1 {
            let took = state.filled_at_ms - busy.since_ms;
            state.team.took(took);
        }
        self.threads.set_alone(false);
        output
    }

    /// Waits until the cap allows more work; lets other tasks run in any case.
    pub(crate) async fn wait(&self, stop: &Stop) -> Result<(), NodeError> {
        loop {
            let pause = {
                let mut state = lock(&self.state);
                self.settle(&mut state);
                let rate = self.rate(state.limits);
                if rate >= self.platform.processors.max(1) as f64 {
                    // At 100 % there is nothing to hold back, and no debt for a cap that is lowered later.
                    state.balance_ms = state.balance_ms.max(0.0);
                }
                match -state.balance_ms / rate {
                    pause if pause < SHORTEST_SLEEP_MS => 0.0,
                    pause => pause.min(LONGEST_SLEEP_MS),
                }
            };
            let sleep = self.platform.clock.sleep(Duration::from_secs_f64(pause / 1000.0));
            stop.race(sleep).await?;
            if pause == 0.0 {
                return Ok(());
            }
        }
    }
}

/// The smaller cap of each pair.
pub(crate) fn lower(a: ResourceLimits, b: ResourceLimits) -> ResourceLimits {
    ResourceLimits {
        cpu: a.cpu.min(b.cpu),
        memory: a.memory.min(b.memory),
        storage: a.storage.min(b.storage),
    }
}

/// A manager that is shared.
pub(crate) type SharedResources = Arc<ResourceManager>;

#[cfg(test)]
mod tests;
