//! Runs every target on its corpus and on seeded mutants of it, for a while.
//!
//! `kwaainet-fuzz [--seconds N] [--seed S] [--target NAME] [--replay FILE]`

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use kwaainet_fuzz::mutate::{Dice, mutate};
use kwaainet_fuzz::{TARGETS, Target};

/// An input of at most 64 KiB must not make a reader take more than this: a lying length would.
const MOST_MEMORY: usize = 256 << 20;
/// Nor keep it busy longer than this, on a slow machine.
const LONGEST_RUN: Duration = Duration::from_secs(10);

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every request to the system's allocator unchanged; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!(
                "{message}\nusage: kwaainet-fuzz [--seconds N] [--seed S] [--target NAME] [--replay FILE]"
            );
            return ExitCode::from(2);
        }
    };
    watch_for_hangs();
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let mut failed = 0;
    for target in TARGETS {
        if options.target.as_deref().is_none_or(|name| name == target.name) {
            failed += run_target(target, &options);
        }
    }
    if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    replay: Option<PathBuf>,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seconds: 10,
            seed: 1,
            target: None,
            replay: None,
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{flag} takes a whole number, not {value}"))
            };
            match flag.as_str() {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                "--target" if TARGETS.iter().any(|target| target.name == value) => {
                    options.target = Some(value)
                }
                "--target" => {
                    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                    return Err(format!(
                        "there is no target {value}; there are {}",
                        names.join(", ")
                    ));
                }
                "--replay" => options.replay = Some(value.into()),
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        if options.replay.is_some() && options.target.is_none() {
            return Err("--replay needs --target".to_owned());
        }
        Ok(options)
    }
}

/// Returns how many inputs broke a promise: 0 or 1, for the first ends the target.
fn run_target(target: &Target, options: &Options) -> u32 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = match &options.replay {
        Some(file) => vec![(file.display().to_string(), read(file))],
        None => corpus(&root.join("corpus").join(target.name)),
    };
    assert!(!seeds.is_empty(), "target {} has no corpus", target.name);
    for (name, seed) in &seeds {
        if let Err(why) = feed(target, seed) {
            eprintln!("{}: {name}: {why}", target.name);
            return 1;
        }
    }
    if options.replay.is_some() {
        println!("{}: no promise was broken", target.name);
        return 0;
    }
    let began = Instant::now();
    let mut dice = Dice::new(options.seed);
    let mut runs = 0_u64;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        // Reading the clock for every input would be most of the work.
        for _ in 0..64 {
            let (_, seed) = &seeds[dice.below(seeds.len())];
            let (_, other) = &seeds[dice.below(seeds.len())];
            let mut input = seed.clone();
            mutate(&mut input, other, target.words, &mut dice);
            runs += 1;
            if let Err(why) = feed(target, &input) {
                let file = save(root, target, &input);
                let (name, seed, file) = (target.name, options.seed, file.display());
                eprintln!("{name}: {why}\n  input {runs} of seed {seed}, kept in {file}");
                eprintln!("  again: cargo run -- --target {name} --replay {file}");
                return 1;
            }
        }
    }
    println!(
        "{:10} {} seeds and {runs} mutants in {} s, seed {}",
        target.name,
        seeds.len(),
        options.seconds,
        options.seed
    );
    0
}

fn feed(target: &Target, input: &[u8]) -> Result<(), String> {
    PEAK.store(NOW.load(Relaxed), Relaxed);
    let before = NOW.load(Relaxed);
    STARTED.store(now_ms(), Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    STARTED.store(0, Relaxed);
    if outcome.is_err() {
        return Err("panicked, see above".to_owned());
    }
    let used = PEAK.load(Relaxed).saturating_sub(before);
    if used > MOST_MEMORY {
        return Err(format!(
            "took {} MiB for {} bytes of input",
            used >> 20,
            input.len()
        ));
    }
    Ok(())
}

static STARTED: AtomicU64 = AtomicU64::new(0);

fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(1, |since| since.as_millis() as u64).max(1)
}

/// A reader that never returns cannot be caught from within: another thread ends the process.
fn watch_for_hangs() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let started = STARTED.load(Relaxed);
            if started != 0 && now_ms().saturating_sub(started) > LONGEST_RUN.as_millis() as u64 {
                eprintln!(
                    "an input kept its target busy for more than {LONGEST_RUN:?}; run each target alone to find it"
                );
                std::process::exit(1);
            }
        }
    });
}

fn corpus(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    files
        .iter()
        .map(|file| (file.display().to_string(), read(file)))
        .collect()
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn save(root: &Path, target: &Target, input: &[u8]) -> PathBuf {
    let folder = root.join("artifacts").join(target.name);
    let file = folder.join(format!("{:016x}", fingerprint(input)));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, input))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    file
}

/// FNV-1a, 64 bits.
fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
