//! Prefill and decode speed of the engine alone:
//! `cargo run --release -p kwaainet-engine --example speed -- model.gguf [threads [prompt tokens [tokens at a time]]]`.
//!
//! One thread is measured in processor time (on Linux), because others use the machine too; more threads in wall time.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement on the developer's machine, not part of the library"
)]

use std::sync::Arc;
use std::time::Instant;

use kwaainet_engine::{LoadOptions, LoadedModel, Session};
use kwaainet_platform::{Parallel, Sequential};
use kwaainet_testkit::NewThreads;
use kwaainet_types::{ConsentGrant, RunAi};

const ANSWER: u32 = 64;

/// Processor time of this thread, where the system tells it.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// How long something takes.
fn seconds(alone: bool, run: impl FnOnce()) -> f64 {
    let (start, processor) = (Instant::now(), processor_seconds());
    run();
    match (alone, processor, processor_seconds()) {
        (true, Some(from), Some(to)) => to - from,
        _ => start.elapsed().as_secs_f64(),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("the path of a model");
    let threads: usize = args.next().map_or(1, |threads| threads.parse().unwrap());
    let prompt_len: u32 = args.next().map_or(128, |tokens| tokens.parse().unwrap());
    let slice: usize = args.next().map_or(128, |tokens| tokens.parse().unwrap());
    let alone = threads == 1;
    let file = std::fs::read(path).unwrap();
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    let parallel: Arc<dyn Parallel> = if alone {
        Arc::new(Sequential)
    } else {
        Arc::new(NewThreads::new(threads))
    };
    let options = LoadOptions {
        parallel,
        ..LoadOptions::default()
    };
    let mut model = None;
    let load = seconds(true, || {
        let mut told = |_, _| {};
        let loading = LoadedModel::load(&permit, &file, options, &mut told);
        model = Some(futures::executor::block_on(loading).unwrap());
    });
    let model = Arc::new(model.unwrap());
    println!(
        "{}, loaded in {load:.2} s, {:?}",
        model.backend(),
        model.memory_plan()
    );
    let words = model.info().vocabulary;
    let mut session = Session::new(model).unwrap();
    for round in 0..5 {
        let prompt: Vec<u32> = (0..prompt_len)
            .map(|at| (100 + round + at * 37) % words)
            .collect();
        session.begin(&prompt).unwrap();
        let prefill = seconds(
            alone,
            || while session.prefill_step(&permit, slice).unwrap() > 0 {},
        );
        let decode = seconds(alone, || {
            for at in 0..ANSWER {
                session.decode(&permit, (200 + at) % words).unwrap();
            }
        });
        println!(
            "prefill {:.1} tokens/s, decode {:.1} tokens/s",
            f64::from(prompt_len) / prefill,
            f64::from(ANSWER) / decode
        );
    }
}
