//! Prefill and decode speed of this engine alone: `cargo run --release -p kwaainet-engine --example speed -- model.gguf`.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement on the developer's machine, not part of the library"
)]

use std::sync::Arc;
use std::time::Instant;

use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{LoadOptions, LoadedModel, Session};
use kwaainet_platform::{Parallel, Sequential};
use kwaainet_types::{ConsentGrant, RunAi};

/// As many threads as asked for, made anew for every call: enough to see whether work divides well.
struct Threads(usize);

impl Parallel for Threads {
    fn width(&self) -> usize {
        self.0
    }
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.0 {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if index >= count {
                            break;
                        }
                        piece(index);
                    }
                });
            }
        });
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("the path of a model");
    let threads: usize = args.next().map_or(1, |n| n.parse().unwrap());
    let prompt = args
        .next()
        .unwrap_or_else(|| "The capital of France is".to_owned());
    let file = std::fs::read(path).unwrap();
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    let parallel: Arc<dyn Parallel> = if threads > 1 {
        Arc::new(Threads(threads))
    } else {
        Arc::new(Sequential)
    };
    let options = LoadOptions {
        parallel,
        ..LoadOptions::default()
    };
    let start = Instant::now();
    let model =
        futures::executor::block_on(LoadedModel::load(&permit, &file, options, &mut |_, _| {})).unwrap();
    println!(
        "load {:.2} s, {:?}, {}",
        start.elapsed().as_secs_f64(),
        model.memory_plan(),
        model.backend()
    );
    let model = Arc::new(model);
    let mut session = Session::new(Arc::clone(&model)).unwrap();
    let tokens = model
        .tokenizer()
        .encode(
            &prompt,
            EncodeOptions {
                add_special: true,
                parse_special: false,
            },
        )
        .unwrap();
    if let (Ok(lists), Ok(dump)) = (std::env::var("LISTS"), std::env::var("DUMP")) {
        let mut bytes: Vec<u8> = Vec::new();
        for line in std::fs::read_to_string(lists).unwrap().lines() {
            let tokens: Vec<u32> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            session.begin(&tokens).unwrap();
            while session.prefill_step(&permit, 128).unwrap() > 0 {}
            bytes.extend(session.logits().iter().flat_map(|l| l.to_le_bytes()));
        }
        std::fs::write(dump, bytes).unwrap();
        return;
    }
    session.begin(&tokens).unwrap();
    while session.prefill_step(&permit, 128).unwrap() > 0 {}
    let mut out = Vec::new();
    for _ in 0..24 {
        let logits = session.logits();
        let best = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .unwrap() as u32;
        if let (true, Ok(path)) = (out.is_empty(), std::env::var("DUMP")) {
            std::fs::write(
                path,
                logits.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<u8>>(),
            )
            .unwrap();
        }
        out.push(best);
        session.decode(&permit, best).unwrap();
    }
    println!("{:?}", model.tokenizer().decode(&out, true).unwrap());
    let prompt: Vec<u32> = (0..128).map(|n| 100 + (n * 37) % 1000).collect();
    for round in 0..4 {
        let mut prompt = prompt.clone();
        prompt[0] = round;
        session.begin(&prompt).unwrap();
        let start = Instant::now();
        while session.prefill_step(&permit, 128).unwrap() > 0 {}
        let prefill = 128.0 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        for n in 0..64 {
            session.decode(&permit, 200 + n).unwrap();
        }
        println!(
            "prefill {prefill:.1} tok/s, decode {:.1} tok/s",
            64.0 / start.elapsed().as_secs_f64()
        );
    }
}
