use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use kwaainet_platform::{
    BoxFuture, Clock, ManualClock, Parallel, Platform, Random as _, ReadAt, SeededRandom, StoreError, boxed,
};
use kwaainet_types::{ConsentGrant, ResourceLimits};

use super::*;
use crate::cancel::Cancel;
use crate::consent::ConsentKeeper;

/// A clock whose timers fire late, as real ones do, and which may know processor time.
struct LateClock {
    manual: ManualClock,
    late: SeededRandom,
    /// Processor time used, if this host can tell.
    cpu_ms: Option<Mutex<f64>>,
}

impl Clock for LateClock {
    fn monotonic_ms(&self) -> f64 {
        self.manual.monotonic_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.manual.unix_ms()
    }

    fn cpu_ms(&self) -> Option<f64> {
        Some(*self.cpu_ms.as_ref()?.lock().unwrap())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        if !duration.is_zero() {
            let late = Duration::from_micros(self.late.next_u64() % 16_000);
            self.manual.advance(duration + late);
        }
        boxed(async {})
    }
}

/// So many threads, and how often they were asked to compute together.
struct Width(usize, AtomicUsize);

impl Parallel for Width {
    fn width(&self) -> usize {
        self.0
    }

    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.1.fetch_add(1, Ordering::Relaxed);
        (0..count).for_each(piece);
    }
}

struct Bench {
    clock: Arc<LateClock>,
    threads: Arc<Width>,
    resources: ResourceManager,
    stop: Stop,
    processors: usize,
}

impl Bench {
    fn new(cpu: u8, processors: usize, width: usize, knows_cpu: bool) -> Self {
        let clock = Arc::new(LateClock {
            manual: ManualClock::new(1_700_000_000_000),
            late: SeededRandom::new(5),
            cpu_ms: knows_cpu.then(Mutex::default),
        });
        let threads = Arc::new(Width(width, AtomicUsize::new(0)));
        let platform = Platform {
            clock: Arc::clone(&clock) as _,
            parallel: Arc::clone(&threads) as _,
            processors,
            ..Platform::in_memory()
        };
        let limits = ResourceLimits {
            cpu,
            ..ResourceLimits::default()
        };
        let consent = Arc::new(ConsentKeeper::new(platform.clone()));
        consent.set(ConsentGrant::of_operator(platform.clock.unix_ms()));
        Self {
            resources: ResourceManager::new(platform, limits),
            stop: Stop::new(&Cancel::new(), &consent),
            clock,
            threads,
            processors,
        }
    }

    /// One step of work that keeps every allowed thread busy for so long.
    fn step(&self, ms: f64) {
        self.resources.wait(&self.stop).now_or_never().unwrap().unwrap();
        let busy = self.resources.begin();
        self.clock.manual.advance(Duration::from_secs_f64(ms / 1000.0));
        if let Some(cpu) = &self.clock.cpu_ms {
            *cpu.lock().unwrap() += ms * self.resources.threads() as f64;
        }
        self.resources.end(&busy);
    }

    fn now(&self) -> f64 {
        self.clock.manual.monotonic_ms()
    }

    /// Works for so long; returns the share of all processors that was used, in per cent.
    fn work(&self, seconds: f64) -> f64 {
        let random = SeededRandom::new(9);
        let start = self.now();
        let mut used = 0.0;
        while self.now() - start < seconds * 1000.0 {
            let ms = 2.0 + (random.next_u64() % 60) as f64;
            self.step(ms);
            used += ms * self.resources.threads() as f64;
        }
        used / ((self.now() - start) * self.processors as f64) * 100.0
    }
}

#[test]
fn the_processor_cap_holds_over_thirty_seconds() {
    for knows_cpu in [false, true] {
        for (cpu, processors, width) in [
            (1, 1, 1),
            (10, 2, 2),
            (20, 1, 1),
            (20, 8, 4),
            (33, 4, 4),
            (50, 2, 2),
            (90, 2, 2),
        ] {
            let used = Bench::new(cpu, processors, width, knows_cpu).work(30.0);
            assert!(
                (used - f64::from(cpu)).abs() < 2.0,
                "cap {cpu} %, {width} of {processors} processors, cpu time known: {knows_cpu}: used {used:.2} %"
            );
        }
    }
}

#[test]
fn no_more_threads_compute_than_the_cap_pays_for() {
    for (cpu, processors, width, threads) in [
        (20, 2, 2, 1),
        (50, 2, 2, 1),
        (51, 2, 2, 2),
        (20, 8, 4, 2),
        (100, 8, 4, 4),
        (1, 1, 1, 1),
    ] {
        let bench = Bench::new(cpu, processors, width, false);
        assert_eq!(bench.resources.threads(), threads, "{cpu} % of {processors}");
    }
    let bench = Bench::new(20, 2, 2, false);
    bench.resources.set_limits(ResourceLimits {
        cpu: 100,
        ..ResourceLimits::default()
    });
    assert_eq!(bench.resources.threads(), 2);
}

#[test]
fn one_thread_of_many_is_not_held_back_below_its_share() {
    // One thread of four processors is 25 %: a cap of 50 % cannot slow it down.
    let used = Bench::new(50, 4, 1, false).work(5.0);
    assert!((used - 25.0).abs() < 0.5, "{used}");
    let free = Bench::new(100, 2, 2, false).work(5.0);
    assert!(free > 99.0, "{free}");
}

#[test]
fn idle_time_is_not_saved_up_for_a_burst() {
    for idle_hours in [0, 1, 10] {
        let bench = Bench::new(20, 1, 1, false);
        bench.clock.manual.advance(Duration::from_secs(idle_hours * 3600));
        let start = bench.now();
        let mut at_once = 0.0;
        loop {
            let before = bench.now();
            bench.step(5.0);
            if bench.now() - before > 5.0 {
                break; // it had to wait
            }
            at_once += 5.0;
        }
        // 100 ms of the allowed fifth, and what is earned meanwhile.
        assert!(
            at_once <= 35.0,
            "{at_once} ms without a pause after {idle_hours} h"
        );
        assert!(bench.now() - start < 200.0);
    }
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    let bench = Bench::new(20, 1, 1, false);
    bench.work(5.0);
    for unix_ms in [0, u64::MAX / 4, 1_600_000_000_000, 1_900_000_000_000] {
        bench.clock.manual.set_unix_ms(unix_ms);
        // The consent's own end is another matter; the governor must not care.
        let busy = bench.resources.begin();
        bench.clock.manual.advance(Duration::from_millis(20));
        bench.resources.end(&busy);
    }
    let state = super::lock(&bench.resources.state);
    assert!(
        state.balance_ms > -100.0 && state.balance_ms < 25.0,
        "{}",
        state.balance_ms
    );
}

#[test]
fn a_suspended_machine_neither_earns_nor_owes_hours() {
    let hours = Duration::from_secs(5 * 3600);
    let bench = Bench::new(20, 2, 2, false);
    bench.work(2.0);
    // Asleep between two steps.
    bench.clock.manual.advance(hours);
    let used = bench.work(30.0);
    assert!((used - 20.0).abs() < 2.0, "after a pause: {used}");
    // Asleep in the middle of a step: the work of ten seconds is owed at most.
    let busy = bench.resources.begin();
    bench.clock.manual.advance(hours);
    bench.resources.end(&busy);
    let before = bench.now();
    bench.step(5.0);
    assert!(
        bench.now() - before < 60_000.0,
        "owes {} ms",
        bench.now() - before
    );
    let used = bench.work(30.0);
    assert!((used - 20.0).abs() < 2.0, "after a frozen step: {used}");
}

#[test]
fn a_cap_changed_on_the_way_takes_effect() {
    let bench = Bench::new(100, 1, 1, false);
    bench.work(2.0);
    bench.resources.set_limits(ResourceLimits {
        cpu: 20,
        ..ResourceLimits::default()
    });
    let used = bench.work(30.0);
    assert!((used - 20.0).abs() < 2.0, "{used}");
}

#[test]
fn waiting_ends_when_cancelled() {
    let bench = Bench::new(1, 1, 1, false);
    let cancel = Cancel::new();
    let consent = Arc::new(ConsentKeeper::new(bench.resources.platform.clone()));
    consent.set(ConsentGrant::of_operator(bench.clock.unix_ms()));
    let stop = Stop::new(&cancel, &consent);
    cancel.cancel();
    let waited = bench.resources.wait(&stop).now_or_never().unwrap();
    assert_eq!(waited, Err(NodeError::Cancelled));
}

#[test]
fn tokens_are_computed_by_one_thread_while_others_hold_the_second_one_up() {
    let bench = Bench::new(100, 2, 2, false);
    let parallel = bench.resources.parallel();
    let random = SeededRandom::new(7);
    let token = |is_token: bool, evaluated: usize, busy: u64| {
        bench.resources.step(is_token, || {
            parallel.run(8, &|_| {});
            let alone = bench.threads.1.swap(0, Ordering::Relaxed) == 0;
            let held_up = random.next_u64() % 100 < busy;
            let ms = if alone {
                15
            } else if held_up {
                22
            } else {
                9
            };
            bench.clock.manual.advance(Duration::from_millis(ms));
            (alone, evaluated)
        })
    };
    let alone = |is_token, evaluated, busy| (0..200).filter(|_| token(is_token, evaluated, busy)).count();
    assert_eq!(alone(true, 1, 0), 0, "nobody disturbs");
    assert_eq!(alone(false, 0, 80), 0, "a prompt's slices are not alike");
    assert_eq!(alone(true, 3, 80), 0, "nor are tokens with guesses");
    let many = alone(true, 1, 80);
    assert!(many > 150, "{many}");
    assert_eq!(alone(false, 0, 80), 0, "a prompt has all threads");
    alone(true, 1, 0);
    assert_eq!(alone(true, 1, 0), 0, "it is over");
}

/// A file whose reads take their time.
struct SlowFile(Arc<LateClock>, Duration);

impl ReadAt for SlowFile {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read_at<'a>(&'a self, _: u64, _: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.manual.advance(self.1);
        boxed(async { Ok(()) })
    }
}

#[test]
fn who_computes_between_reads_keeps_to_the_cap_and_pays_for_no_waiting() {
    // What is earned while waiting counts, up to the most credit: 20 ms of work here.
    for (waiting, expected_ms) in [(0, 40.0 / 0.2), (80, 40.0 / 0.2), (1000, 1100.0)] {
        let bench = Bench::new(20, 1, 1, false);
        let start = bench.now();
        let file = SlowFile(Arc::clone(&bench.clock), Duration::from_millis(waiting));
        let paced = Paced::new(&file, &bench.resources, &bench.stop);
        for at in 0..100 {
            let read = paced.read_at(at, &mut []).now_or_never();
            assert_eq!(read, Some(Ok(())));
            bench.clock.manual.advance(Duration::from_millis(40));
        }
        drop(paced);
        let busy = bench.resources.busy_ms();
        assert!((busy - 4000.0).abs() < 1.0, "busy for {busy} ms of 4000");
        let each = (bench.now() - start) / 100.0;
        assert!(
            (each / expected_ms - 1.0).abs() < 0.05,
            "{each} ms each, waiting {waiting}"
        );
    }
}
