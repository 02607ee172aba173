//! Our products against candle's, in one run, interleaved, on one thread:
//! `CANDLE_NUM_THREADS=1 cargo run --release -p kwaainet-engine --features candle --example candle`.
//!
//! With a model file as argument, also how far the logits of the two are apart.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measurement on the developer's machine, not part of the library"
)]

use std::time::Instant;

use kwaainet_engine::candle_reference::{Comparison, logits_of_both};
use kwaainet_engine::gguf::DType;
use kwaainet_testkit::tiny_gguf::{Noise, quantise};
use kwaainet_types::{ConsentGrant, RunAi};

/// Billions of multiplications per second: the best of several runs, because others use this machine too.
fn best(work: f64, mut run: impl FnMut()) -> f64 {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            work / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}

fn main() {
    let (rows, columns) = (1024, 1024);
    let mut noise = Noise(1);
    let numbers: Vec<f32> = (0..rows * columns).map(|_| noise.number()).collect();
    println!(
        "{:>5} {:>7} {:>12} {:>12} {:>7}",
        "", "tokens", "ours GMAC/s", "candle", "ratio"
    );
    for dtype in DType::ALL {
        let bytes = quantise(dtype.name(), &numbers);
        for tokens in [1, 32] {
            let x: Vec<f32> = (0..tokens * columns).map(|_| noise.number()).collect();
            let mut both = Comparison::new(dtype, rows, columns, &bytes, x).unwrap();
            let difference = both
                .candle()
                .iter()
                .zip(both.ours())
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(difference < 2.0, "{dtype}: the two differ by {difference}");
            let repeats = 64 / tokens;
            let work = (rows * columns * tokens * repeats) as f64;
            let (mut ours, mut candle) = (0.0_f64, 0.0_f64);
            for _ in 0..3 {
                ours = ours.max(best(work, || {
                    (0..repeats).for_each(|_| drop(both.ours().to_vec()))
                }));
                candle = candle.max(best(work, || (0..repeats).for_each(|_| drop(both.candle()))));
            }
            println!(
                "{:>5} {tokens:>7} {ours:>12.1} {candle:>12.1} {:>7.1}",
                dtype.name(),
                ours / candle
            );
        }
    }
    if let Some(path) = std::env::args().nth(1) {
        let file = std::fs::read(path).unwrap();
        let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
        let tokens: Vec<u32> = (0..40).map(|at| 3 + (at * 37 + 11) % 250).collect();
        let (ours, candle) = futures::executor::block_on(logits_of_both(&permit, &file, &tokens)).unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let cosine = dot(&ours, &candle) / (dot(&ours, &ours) * dot(&candle, &candle)).sqrt();
        println!("cosine of the logits: {cosine:.6}");
    }
}
