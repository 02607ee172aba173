//! Whole models on tiny random weights: every architecture, every format, and what must not change a result.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kwaainet_engine::{EngineError, LoadOptions, LoadedModel, Session};
use kwaainet_platform::{BoxFuture, ReadAt, StoreError, boxed};
use kwaainet_testkit::tiny_gguf::{ARCHITECTURES, FORMATS, GgufValue, TinyModel};
use kwaainet_testkit::{NewThreads, block_on};
use kwaainet_types::{ConsentGrant, ErrorCode, Permit, RunAi};

fn permit() -> Permit<RunAi> {
    ConsentGrant::of_operator(0).permit(0).unwrap()
}

fn load(bytes: &Vec<u8>, options: LoadOptions) -> Result<Arc<LoadedModel>, EngineError> {
    block_on(LoadedModel::load(&permit(), bytes, options, &mut |_, _| {})).map(Arc::new)
}

fn session(model: &TinyModel) -> Session {
    Session::new(load(&model.bytes(), LoadOptions::default()).unwrap()).unwrap()
}

/// A sequence of token ids that exist in every tiny vocabulary.
fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|at| 3 + (at as u32 * 37 + 11) % 250).collect()
}

/// Logits behind `tokens`, evaluated in prefill steps of the given sizes.
fn prefill(session: &mut Session, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
    session.begin(tokens).unwrap();
    for step in steps.iter().cycle() {
        if session.prefill_step(&permit(), *step).unwrap() == 0 {
            break;
        }
        assert!(session.logits().is_empty(), "no logits while tokens are pending");
    }
    session.logits().to_vec()
}

#[test]
fn every_architecture_runs_in_every_format_and_decode_equals_prefill() {
    let tokens = tokens(45);
    for architecture in ARCHITECTURES {
        for (format, ..) in FORMATS {
            let mut model = TinyModel::new(architecture, format);
            model.layers = if architecture == "gemma3" { 7 } else { 2 };
            let mut session = session(&model);
            let whole = prefill(&mut session, &tokens, &[128]);
            assert!(
                whole.iter().all(|logit| logit.is_finite()),
                "{architecture} {format}"
            );
            assert!(
                whole.iter().any(|logit| (logit - whole[0]).abs() > 0.1),
                "{architecture} {format}"
            );
            // Anew, because the cache of the same tokens would be reused.
            let model = Arc::clone(session.model());
            let mut session = Session::new(model).unwrap();
            prefill(&mut session, &tokens[..17], &[5, 1]);
            for token in &tokens[17..] {
                session.decode(&permit(), *token).unwrap();
            }
            assert_eq!(session.tokens(), &tokens[..]);
            assert_eq!(
                whole,
                session.logits(),
                "{architecture} {format}: decode and prefill differ"
            );
        }
    }
}

#[test]
fn threads_change_nothing() {
    for (architecture, format) in [("llama", "Q4_1"), ("gemma3", "Q6_K")] {
        let model = TinyModel::new(architecture, format);
        let alone = prefill(&mut session(&model), &tokens(60), &[64]);
        let threads = Arc::new(NewThreads::new(3));
        let options = LoadOptions {
            parallel: Arc::<NewThreads>::clone(&threads),
            ..LoadOptions::default()
        };
        let mut session = Session::new(load(&model.bytes(), options).unwrap()).unwrap();
        assert_eq!(alone, prefill(&mut session, &tokens(60), &[64]), "{architecture}");
        assert!(threads.computations() > 0, "work was divided");
    }
}

#[test]
fn a_common_beginning_is_not_evaluated_again() {
    let mut session = session(&TinyModel::new("gemma3", "Q8_0"));
    let first = tokens(50);
    prefill(&mut session, &first, &[16]);
    let mut second = first[..40].to_vec();
    second.extend([7, 8, 9]);
    assert_eq!(session.begin(&second).unwrap(), 40);
    assert_eq!(session.prefill_step(&permit(), 100).unwrap(), 0);
    let resumed = session.logits().to_vec();
    let mut fresh = Session::new(Arc::clone(session.model())).unwrap();
    assert_eq!(resumed, prefill(&mut fresh, &second, &[64]));
    // The same again: one token is evaluated, so that there are logits.
    assert_eq!(session.begin(&second).unwrap(), 42);
    assert!(session.logits().is_empty());
    assert_eq!(session.prefill_step(&permit(), 1).unwrap(), 0);
    assert_eq!(resumed, session.logits());
}

#[test]
fn what_does_not_fit_is_refused_with_both_numbers() {
    let model = TinyModel::new("llama", "Q8_0");
    let options = LoadOptions {
        context_length: 20,
        ..LoadOptions::default()
    };
    let model = load(&model.bytes(), options).unwrap();
    assert_eq!(model.context_length(), 20);
    let mut session = Session::new(model).unwrap();
    let error = session.begin(&tokens(21)).unwrap_err();
    assert_eq!(
        error,
        EngineError::ContextFull {
            needed: 21,
            available: 20
        }
    );
    assert_eq!(error.code(), ErrorCode::ContextTooLong);
    assert_eq!(session.begin(&[]), Err(EngineError::NoTokens));
    assert!(matches!(
        session.begin(&[1, 9_999]),
        Err(EngineError::UnknownToken { token: 9_999, .. })
    ));
    prefill(&mut session, &tokens(19), &[50]);
    assert!(matches!(
        session.decode(&permit(), 9_999),
        Err(EngineError::UnknownToken { .. })
    ));
    session.decode(&permit(), 5).unwrap();
    let full = session.decode(&permit(), 6).unwrap_err();
    assert_eq!(
        full,
        EngineError::ContextFull {
            needed: 21,
            available: 20
        }
    );
    // Still usable.
    assert_eq!(session.begin(&tokens(10)).unwrap(), 9);
    assert!(matches!(
        session.decode(&permit(), 1),
        Err(EngineError::WrongOrder(_))
    ));
}

#[test]
fn scores_are_the_log_probabilities_of_what_follows() {
    let mut session = session(&TinyModel::new("qwen2", "Q5_K"));
    let tokens = tokens(30);
    let scores = session.score(&permit(), &tokens).unwrap();
    assert_eq!(scores.len(), 29);
    for at in [1, 13, 29] {
        let logits = prefill(&mut session, &tokens[..at], &[64]);
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let expected = logits[tokens[at] as usize] - largest - sum.ln();
        assert!((scores[at - 1] - expected).abs() < 1e-4, "{at}");
    }
}

/// Reads in order of demand, and remembers the largest read; fails from some byte on.
struct Source {
    bytes: Vec<u8>,
    largest: AtomicUsize,
    fails_from: u64,
}

impl ReadAt for Source {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            self.largest.fetch_max(buf.len(), Ordering::Relaxed);
            if offset + buf.len() as u64 > self.fails_from {
                return Err(StoreError::Io("the disk is gone".into()));
            }
            self.bytes.read_at(offset, buf).await
        })
    }
}

#[test]
fn loading_streams_and_reports_and_fails_with_a_reason() {
    let mut model = TinyModel::new("llama", "F32");
    model.feed_forward = 2048;
    let mut source = Source {
        bytes: model.bytes(),
        largest: AtomicUsize::new(0),
        fails_from: u64::MAX,
    };
    let mut told = Vec::new();
    let load = |source: &Source, told: &mut Vec<(u64, u64)>| {
        block_on(LoadedModel::load(
            &permit(),
            source,
            LoadOptions::default(),
            &mut |done, total| {
                told.push((done, total));
            },
        ))
    };
    let loaded = load(&source, &mut told).unwrap();
    assert!(
        source.largest.load(Ordering::Relaxed) <= 1 << 20,
        "reads of at most 1 MiB"
    );
    assert!(told.is_sorted() && told.len() > 20);
    let (done, total) = *told.last().unwrap();
    assert_eq!(done, total);
    assert_eq!(loaded.info().file_bytes, source.bytes.len() as u64);
    source.fails_from = source.bytes.len() as u64 / 2;
    assert!(matches!(load(&source, &mut told), Err(EngineError::Read(_))));
}

#[test]
fn a_model_too_large_is_refused_before_it_is_read() {
    let model = TinyModel::new("qwen3", "Q4_K");
    let source = Source {
        bytes: model.bytes(),
        largest: AtomicUsize::new(0),
        // The header can be read, nothing else.
        fails_from: model.build().header().len() as u64 + 300_000,
    };
    let options = LoadOptions {
        memory_limit: Some(100_000),
        ..LoadOptions::default()
    };
    let error = block_on(LoadedModel::load(&permit(), &source, options, &mut |_, _| {})).unwrap_err();
    assert!(matches!(error, EngineError::OutOfMemory { needed, limit: 100_000 } if needed > 100_000));
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let mut file = TinyModel::new("llama", "Q8_0").build();
    let tensor = file.tensor_mut("blk.3.ffn_up.weight");
    tensor.data[34 * 8 * 5..][..2].copy_from_slice(&0x7c00_u16.to_le_bytes());
    let error = load(&file.bytes(), LoadOptions::default()).unwrap_err();
    assert!(
        matches!(&error, EngineError::NotFinite { what } if what.contains("row 5") && what.contains("blk.3.ffn_up"))
    );
    let mut file = TinyModel::new("llama", "Q8_0").build();
    file.tensor_mut("blk.0.ffn_norm.weight").data[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let error = load(&file.bytes(), LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, EngineError::NotFinite { what } if what.contains("blk.0.ffn_norm")));
    assert_eq!(error.code(), ErrorCode::ModelInvalid);
}

#[test]
fn numbers_that_overflow_are_reported_and_the_session_recovers() {
    let mut file = TinyModel::new("llama", "F32").build();
    for value in file.tensor_mut("blk.6.ffn_norm.weight").data.chunks_mut(4) {
        value.copy_from_slice(&1e38_f32.to_le_bytes());
    }
    let mut session = Session::new(load(&file.bytes(), LoadOptions::default()).unwrap()).unwrap();
    session.begin(&tokens(5)).unwrap();
    let error = session.prefill_step(&permit(), 10).unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { .. }), "{error}");
    assert!(session.logits().is_empty() && session.tokens().is_empty());
    assert_eq!(session.begin(&tokens(5)).unwrap(), 0);
}

#[test]
fn variants_change_the_result() {
    // Each of these is read from the file and used: leaving it out would give other logits.
    let base = TinyModel::new("llama", "F32");
    let reference = prefill(&mut session(&base), &tokens(40), &[64]);
    let factors = TinyModel {
        rope_factors: true,
        ..base.clone()
    };
    let scaled = TinyModel {
        rope_scale: Some(4.0),
        ..base.clone()
    };
    let tied = TinyModel {
        tied: true,
        ..base.clone()
    };
    let yarn = TinyModel {
        rope_scaling: "yarn",
        original_context: Some(64),
        ..scaled.clone()
    };
    let logits = |model: &TinyModel| prefill(&mut session(model), &tokens(40), &[64]);
    assert_ne!(logits(&scaled), logits(&yarn));
    let short = TinyModel {
        long_rope: true,
        original_context: Some(256),
        ..TinyModel::new("phi3", "F32")
    };
    let long = TinyModel {
        original_context: Some(64),
        ..short.clone()
    };
    assert_ne!(
        logits(&short),
        logits(&long),
        "a session of 256 tokens is a long one"
    );
    for variant in [factors, scaled, tied] {
        assert_ne!(
            reference,
            prefill(&mut session(&variant), &tokens(40), &[64]),
            "{variant:?}"
        );
    }
    let gemma = TinyModel::new("gemma3", "F32");
    let wide = TinyModel {
        window: 200,
        ..gemma.clone()
    };
    let mut narrow_session = session(&gemma);
    let mut wide_session = session(&wide);
    let short = tokens(20);
    assert_eq!(
        prefill(&mut narrow_session, &short, &[64]),
        prefill(&mut wide_session, &short, &[64]),
        "within the window there is no difference"
    );
    let long = tokens(60);
    assert_ne!(
        prefill(&mut narrow_session, &long, &[64]),
        prefill(&mut wide_session, &long, &[64])
    );
    let mut file = base.build();
    file.set("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(0.1));
    let mut session = Session::new(load(&file.bytes(), LoadOptions::default()).unwrap()).unwrap();
    assert_ne!(reference, prefill(&mut session, &tokens(40), &[64]));
}
