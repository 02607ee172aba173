//! Real weights. Skipped, loudly, where they have not been fetched.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::path::PathBuf;
use std::sync::Arc;

use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{LoadOptions, LoadedModel, Session};
use kwaainet_testkit::block_on;
use kwaainet_types::{ConsentGrant, RunAi};

/// The greedy continuation of a prompt.
fn continuation(file: &str, prompt: &str, count: usize) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../.cache/models")
        .join(file);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("SKIPPED: {} is not there; `npm start` fetches it", path.display());
        return None;
    };
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    let model = block_on(LoadedModel::load(
        &permit,
        &bytes,
        LoadOptions::default(),
        &mut |_, _| {},
    ))
    .unwrap();
    let model = Arc::new(model);
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let tokens = model.tokenizer().encode(prompt, options).unwrap();
    let mut session = Session::new(Arc::clone(&model)).unwrap();
    session.begin(&tokens).unwrap();
    assert_eq!(session.prefill_step(&permit, 128).unwrap(), 0);
    let mut answer = Vec::new();
    for _ in 0..count {
        let logits = session.logits();
        let best = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .unwrap() as u32;
        answer.push(best);
        session.decode(&permit, best).unwrap();
    }
    Some(model.tokenizer().decode(&answer, false).unwrap())
}

#[test]
fn smollm2_knows_the_capital_of_france() {
    if let Some(text) = continuation("smollm2-135m-instruct-q4_1.gguf", "The capital of France is", 6) {
        assert!(text.contains("Paris"), "{text:?}");
    }
}

#[test]
fn gemma3_completes_a_sentence() {
    if let Some(text) = continuation("gemma-3-270m-q4_k_m.gguf", "The opposite of hot is", 8) {
        assert!(text.to_lowercase().contains("cold"), "{text:?}");
    }
}
