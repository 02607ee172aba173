//! Work of a known size, for counting instructions under callgrind: `node tests/tasks/instructions.mjs`.
//!
//! Says what it does, one line for each call of [`measured`].

#![expect(
    clippy::unwrap_used,
    reason = "a measurement on the developer's machine, not part of the library"
)]

use std::sync::Arc;

use kwaainet_engine::{LoadOptions, LoadedModel, Session};
use kwaainet_testkit::block_on;
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_types::{ConsentGrant, RunAi};

const PROMPT: u32 = 128;
const ANSWER: u32 = 32;

/// What callgrind counts: it knows functions by name.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
}

fn main() {
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    for format in ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16"] {
        let mut model = TinyModel::new("llama", format);
        model.layers = 2;
        let (file, mut told) = (model.bytes(), |_, _| {});
        // On one thread, which is the default.
        let loading = LoadedModel::load(&permit, &file, LoadOptions::default(), &mut told);
        let model = Arc::new(block_on(loading).unwrap());
        let (backend, words) = (model.backend(), model.info().vocabulary);
        let mut session = Session::new(model).unwrap();
        let prompt: Vec<u32> = (0..PROMPT).map(|at| (3 + at * 37) % words).collect();
        session.begin(&prompt).unwrap();
        println!("{backend}: {format} prefill of {PROMPT}");
        measured(&mut || while session.prefill_step(&permit, 128).unwrap() > 0 {});
        println!("{backend}: {format} decode of {ANSWER}");
        measured(&mut || {
            for at in 0..ANSWER {
                session.decode(&permit, (200 + at) % words).unwrap();
            }
        });
    }
}
