//! Bad model files: cut off, flipped, lying, gigantic. Each gets an error; none a panic or a large allocation.

#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kwaainet_engine::gguf::{DType, Gguf, GgufError, OptionalKey, ParseOutcome};
use kwaainet_engine::{EngineError, LoadOptions, MemoryPlan, check_runnable};
use kwaainet_testkit::block_on;
use kwaainet_testkit::tiny_gguf::{GgufFile, GgufValue, TinyModel};
use kwaainet_types::ErrorCode;
use proptest::prelude::*;

/// Counts the bytes that this thread asks for, and the largest single request.
struct Counting;
thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Parses, and says how large the largest allocation was.
fn parse(bytes: &[u8], size: u64) -> (Result<ParseOutcome, GgufError>, usize) {
    LARGEST.set(0);
    let outcome = Gguf::parse(bytes, size);
    (outcome, LARGEST.get())
}

fn complete(bytes: &[u8]) -> Result<Gguf, GgufError> {
    match Gguf::parse(bytes, bytes.len() as u64)? {
        ParseOutcome::Complete(gguf) => Ok(*gguf),
        ParseOutcome::NeedMore { at_least } => panic!("{at_least} bytes of {} are asked for", bytes.len()),
    }
}

fn small() -> GgufFile {
    static FILE: std::sync::OnceLock<GgufFile> = std::sync::OnceLock::new();
    FILE.get_or_init(|| {
        let mut model = TinyModel::new("llama", "Q4_0");
        model.layers = 1;
        model.build()
    })
    .clone()
}

fn error_of(change: impl FnOnce(&mut GgufFile)) -> GgufError {
    let mut file = small();
    change(&mut file);
    complete(&file.bytes()).expect_err("this file is bad")
}

#[test]
fn a_sound_file_is_read_whole_or_in_growing_pieces() {
    let file = small();
    let bytes = file.bytes();
    let gguf = complete(&bytes).unwrap();
    assert_eq!(gguf, block_on(Gguf::read(&bytes)).unwrap());
    assert_eq!(gguf.metadata.str("general.name"), Ok("tiny"));
    assert_eq!(gguf.metadata.u32("llama.block_count"), Ok(1));
    assert_eq!(gguf.metadata.f32("llama.rope.freq_base"), Ok(1e5));
    assert_eq!(
        gguf.metadata.texts("tokenizer.ggml.merges").unwrap().get(0),
        Some("t h")
    );
    assert_eq!(gguf.metadata.i32s("tokenizer.ggml.token_type").unwrap()[0], 3);
    assert_eq!(gguf.metadata.bool("tokenizer.ggml.add_bos_token"), Ok(false));
    assert_eq!(gguf.tensors.len(), file.tensors.len());
    let tensor = gguf.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((tensor.dtype, &tensor.shape[..]), (DType::Q4_0, &[512, 256][..]));
    let at = tensor.offset as usize;
    let written = &file.tensors.iter().find(|t| t.name == tensor.name).unwrap().data;
    assert_eq!(&bytes[at..at + tensor.bytes as usize], &written[..]);
    assert!(
        matches!(gguf.metadata.str("no.such.key"), Err(GgufError::MissingKey { key }) if key == "no.such.key")
    );
    assert_eq!(gguf.metadata.str("no.such.key").optional(), Ok(None));
    assert!(matches!(
        gguf.metadata.u32("general.name"),
        Err(GgufError::WrongType { key, found: "a text", .. }) if key == "general.name"
    ));
}

#[test]
fn a_prefix_asks_for_more_and_never_for_less_than_it_has() {
    let file = small();
    let (bytes, header) = (file.bytes(), file.header().len());
    for len in 0..bytes.len().min(header + 40) {
        match parse(&bytes[..len], bytes.len() as u64) {
            (Ok(ParseOutcome::NeedMore { at_least }), _) => {
                assert!(
                    len < header && at_least > len as u64 && at_least <= header as u64,
                    "{len}"
                );
            }
            (Ok(ParseOutcome::Complete(_)), _) => assert!(len >= header, "{len}"),
            (Err(error), _) => panic!("{len}: {error}"),
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_named_so() {
    let bytes = small().bytes();
    let end = complete(&bytes)
        .unwrap()
        .tensors
        .iter()
        .map(|t| t.offset + t.bytes)
        .max()
        .unwrap() as usize;
    for len in (0..end).filter(|len| len % 13 == 0 || *len > end - 40) {
        let cut = bytes[..len].to_vec();
        let error = block_on(Gguf::read(&cut)).unwrap_err();
        assert!(
            matches!(error, GgufError::Truncated { .. } | GgufError::OutsideFile { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn the_wrong_kind_of_file_is_named() {
    let bytes = small().bytes();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        complete(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b"GGML"), GgufError::WrongMagic { found: *b"GGML" });
    assert_eq!(with(4, &1_u32.to_le_bytes()), GgufError::Version1);
    assert_eq!(with(4, &3_u32.to_be_bytes()), GgufError::BigEndian);
    assert_eq!(
        with(4, &0x0102_0304_u32.to_le_bytes()),
        GgufError::UnknownVersion { version: 0x0102_0304 }
    );
    let mut old = small();
    old.version = 2;
    assert_eq!(complete(&old.bytes()).unwrap().version, 2);
}

#[test]
fn lies_are_caught_before_anything_is_allocated_for_them() {
    let bytes = small().bytes();
    let size = bytes.len() as u64;
    for (at, what) in [(8, "tensors"), (16, "metadata keys")] {
        for lie in [70_000_u64, 1 << 40, u64::MAX] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            let (outcome, largest) = parse(&bytes, size);
            assert!(matches!(outcome, Err(GgufError::TooMany { what: named, .. }) if named == what));
            assert!(largest < 4096, "{largest}");
        }
    }
    let text = |len: u64| GgufValue::Raw(8, len.to_le_bytes().to_vec());
    let array = |kind: u32, len: u64| {
        GgufValue::Raw(
            9,
            kind.to_le_bytes().into_iter().chain(len.to_le_bytes()).collect(),
        )
    };
    for value in [
        text(u64::MAX),
        text(1 << 31),
        text(3 << 20),
        array(0, u64::MAX),
        array(8, 1 << 40),
        array(10, u64::MAX / 8 + 1),
        array(6, 1 << 62),
        array(12, 1 << 29),
    ] {
        let mut file = small();
        file.metadata.insert(0, ("general.lie".into(), value.clone()));
        let bytes = file.bytes();
        let (outcome, largest) = parse(&bytes, bytes.len() as u64);
        assert!(outcome.is_err(), "{value:?}");
        // A text array collects what is really there; nothing else grows.
        assert!(largest < 1 << 20, "{value:?}: {largest}");
        // Of a huge file, more would be asked for; still nothing is allocated.
        let (outcome, largest) = parse(&bytes, 1 << 50);
        assert!(largest < 1 << 20, "{value:?}: {largest} {outcome:?}");
    }
}

#[test]
fn nonsense_in_the_header_is_named() {
    let nested: Vec<u8> = [9_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    assert!(matches!(
        error_of(|file| file.set("a", GgufValue::Raw(9, [nested, vec![0; 20]].concat()))),
        GgufError::NestedArray { key } if key == "a"
    ));
    assert!(matches!(
        error_of(|file| file.set("a", GgufValue::Raw(13, vec![0; 8]))),
        GgufError::UnknownValueType { id: 13, .. }
    ));
    assert!(matches!(
        error_of(|file| file.metadata.push(("general.name".into(), GgufValue::U32(1)))),
        GgufError::Duplicate { name } if name == "general.name"
    ));
    assert!(matches!(
        error_of(|file| {
            let twin = file.tensors[0].clone();
            file.tensors.push(twin);
        }),
        GgufError::Duplicate { .. }
    ));
    for alignment in [0, 3, 48, 1 << 21, u32::MAX] {
        let error = error_of(|file| file.set("general.alignment", GgufValue::U32(alignment)));
        assert_eq!(error, GgufError::Alignment { alignment });
    }
    for shape in [
        vec![],
        vec![0, 256],
        vec![31, 256],
        vec![1 << 40, 1 << 40],
        vec![32, 1, 1, 1, 1],
    ] {
        let error = error_of(|file| file.tensors[0].shape = shape.clone());
        assert!(matches!(error, GgufError::Shape { .. }), "{shape:?}: {error}");
    }
    assert!(matches!(
        error_of(|file| file.tensors[0].format = 23),
        GgufError::UnknownDType {
            id: 23,
            known_as: "IQ4_XS",
            ..
        }
    ));
    // A tensor that claims twice its size covers the next one.
    assert!(matches!(
        error_of(|file| file.tensors[0].shape[1] *= 2),
        GgufError::Overlap { .. }
    ));
    assert!(matches!(
        error_of(|file| file.tensors.last_mut().unwrap().shape = vec![1 << 44]),
        GgufError::OutsideFile { .. }
    ));
}

#[test]
fn offsets_that_go_back_or_round_are_caught() {
    let file = small();
    let (bytes, header) = (file.bytes(), file.header());
    // The last eight bytes of the table are the last tensor's offset.
    let at = header.len() - 8;
    let with = |offset: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        complete(&bytes).unwrap_err()
    };
    assert!(matches!(with(0), GgufError::Overlap { .. }));
    assert!(matches!(with(7), GgufError::Misaligned { offset: 7, .. }));
    assert!(matches!(with(u64::MAX - 31), GgufError::OutsideFile { .. }));
    assert!(matches!(with(1 << 40), GgufError::OutsideFile { .. }));
}

#[test]
fn models_that_cannot_run_are_refused_by_their_header() {
    let of = |change: &dyn Fn(&mut GgufFile)| {
        let mut file = small();
        change(&mut file);
        // Only the header and the length of the file: no tensor is there yet.
        let (header, size) = (file.header(), file.bytes().len() as u64);
        let mut header = header;
        header.resize(header.len().next_multiple_of(32), 0);
        match Gguf::parse(&header, size).map_err(EngineError::from)? {
            ParseOutcome::Complete(gguf) => check_runnable(&gguf),
            ParseOutcome::NeedMore { .. } => panic!("the header is complete"),
        }
    };
    let info = of(&|_| {}).unwrap();
    assert_eq!(
        (info.architecture.as_str(), info.quantisation.as_str()),
        ("llama", "Q4_0")
    );
    assert_eq!(
        (info.layers, info.context_length, info.embedding_length),
        (1, 256, 256)
    );
    let error = of(&|file| file.set("general.architecture", GgufValue::Text("mamba".into()))).unwrap_err();
    assert!(
        matches!(&error, EngineError::UnsupportedArchitecture { architecture } if architecture == "mamba")
    );
    assert_eq!(error.code(), ErrorCode::ModelUnsupported);
    let error = of(&|file| file.tensor_mut("blk.0.attn_q.weight").format = 19).unwrap_err();
    assert!(error.to_string().contains("IQ1_S"), "{error}");
    assert_eq!(error.code(), ErrorCode::ModelUnsupported);
    for (key, value) in [
        ("llama.embedding_length", GgufValue::U32(0)),
        ("llama.embedding_length", GgufValue::U32(255)),
        ("llama.attention.head_count_kv", GgufValue::U32(3)),
        ("llama.attention.head_count", GgufValue::Text("four".into())),
        ("llama.block_count", GgufValue::U32(u32::MAX)),
        ("llama.block_count", GgufValue::U32(2)),
        ("llama.attention.key_length", GgufValue::U32(63)),
        ("llama.attention.key_length", GgufValue::U32(1 << 30)),
        ("llama.rope.dimension_count", GgufValue::U32(66)),
        ("llama.rope.freq_base", GgufValue::F32(f32::NAN)),
        ("llama.rope.freq_base", GgufValue::F32(0.0)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(-1.0)),
        ("llama.feed_forward_length", GgufValue::U32(511)),
        ("llama.expert_count", GgufValue::U32(8)),
        ("llama.rope.scaling.type", GgufValue::Text("spiral".into())),
        ("llama.rope.scaling.factor", GgufValue::F32(-4.0)),
        ("llama.rope.scaling.attn_factor", GgufValue::F32(f32::NAN)),
        ("llama.rope.scaling.original_context_length", GgufValue::U32(0)),
    ] {
        let error = of(&|file| file.set(key, value.clone())).expect_err(key);
        assert!(
            matches!(
                error.code(),
                ErrorCode::ModelInvalid | ErrorCode::ModelUnsupported
            ),
            "{key}: {error}"
        );
    }
    assert!(matches!(
        of(&|file| file.tensors.retain(|tensor| tensor.name != "blk.0.ffn_up.weight")),
        Err(EngineError::MissingTensor { name }) if name == "blk.0.ffn_up.weight"
    ));
    assert!(matches!(
        of(&|file| file.tensor_mut("output_norm.weight").name = "blk.0.ffn_gate_exps.weight".into()),
        Err(EngineError::MissingTensor { .. })
    ));
    let mut file = small();
    let mut extra = file.tensor_mut("output_norm.weight").clone();
    extra.name = "blk.0.ssm_conv.weight".into();
    file.tensors.push(extra);
    let gguf = complete(&file.bytes()).unwrap();
    assert!(
        matches!(check_runnable(&gguf), Err(EngineError::UnsupportedFeature { feature }) if feature.contains("ssm_conv"))
    );
}

#[test]
fn fused_tensors_are_checked_like_others() {
    let check = |change: &dyn Fn(&mut GgufFile)| {
        let mut file = TinyModel::new("phi3", "Q8_0").build();
        change(&mut file);
        check_runnable(&complete(&file.bytes()).unwrap())
    };
    assert_eq!(check(&|_| {}).unwrap().architecture, "phi3");
    let short = check(&|file| {
        let tensor = file.tensor_mut("blk.2.ffn_up.weight");
        tensor.shape[1] -= 1;
        tensor.data.truncate(tensor.data.len() - 34 * 8);
    });
    assert!(matches!(short, Err(EngineError::TensorShape { name, .. }) if name == "blk.2.ffn_up.weight"));
    // As many parts too few as tensors too many: the count alone would not tell.
    let beside = check(&|file| {
        let mut extra = file.tensor_mut("blk.0.attn_norm.weight").clone();
        extra.name = "blk.0.attn_q.bias_of_nothing".into();
        file.tensors.push(extra);
    });
    assert!(
        matches!(beside, Err(EngineError::UnsupportedFeature { feature }) if feature.contains("of_nothing"))
    );
    let missing = check(&|file| {
        file.tensors
            .retain(|tensor| tensor.name != "blk.1.attn_qkv.weight");
    });
    assert!(matches!(missing, Err(EngineError::MissingTensor { name }) if name == "blk.1.attn_q.weight"));
}

#[test]
fn the_context_ends_where_the_temperature_of_attention_would_rise() {
    let model = TinyModel {
        rope_scale: Some(4.0),
        rope_scaling: "yarn",
        original_context: Some(64),
        ..TinyModel::new("mistral3", "F16")
    };
    let mut file = model.build();
    let context =
        |file: &GgufFile| check_runnable(&complete(&file.bytes()).unwrap()).map(|info| info.context_length);
    assert_eq!(context(&file).unwrap(), 64);
    file.unset("mistral3.attention.temperature_scale");
    assert_eq!(context(&file).unwrap(), 256);
}

#[test]
fn the_memory_plan_is_known_from_the_header() {
    let bytes = TinyModel::new("qwen3", "Q6_K").bytes();
    let gguf = complete(&bytes).unwrap();
    let plan = MemoryPlan::of(&gguf, &LoadOptions::default()).unwrap();
    let short = LoadOptions {
        context_length: 32,
        ..LoadOptions::default()
    };
    let tensors: u64 = gguf.tensors.iter().map(|tensor| tensor.bytes).sum();
    // K-quants unpack their sub-scales: at most a quarter bit per weight more than the file.
    assert!(
        plan.weights >= tensors && plan.weights < tensors * 11 / 10,
        "{plan:?} {tensors}"
    );
    // 7 layers, keys and values, 2 heads of 64, 256 positions, 2 bytes.
    assert_eq!(plan.kv_cache, 7 * 2 * 2 * 64 * 256 * 2);
    // Memory comes by 64 positions.
    assert_eq!(MemoryPlan::of(&gguf, &short).unwrap().kv_cache, plan.kv_cache / 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..8)) {
        let file = small();
        let (mut bytes, header) = (file.bytes(), file.header().len());
        for (at, bit) in flips {
            let at = at.index(header);
            bytes[at] ^= 1 << bit;
        }
        let size = bytes.len() as u64;
        let (outcome, largest) = parse(&bytes, size);
        prop_assert!(largest <= 4 * bytes.len(), "{}", largest);
        if let Ok(ParseOutcome::Complete(gguf)) = outcome
            && let Ok(info) = check_runnable(&gguf)
        {
            prop_assert!(info.parameters > 0);
            let plan = MemoryPlan::of(&gguf, &LoadOptions::default());
            prop_assert!(plan.is_ok());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), size in any::<u64>()) {
        let bytes = [b"GGUF\x03\0\0\0".to_vec(), bytes].concat();
        let (_, largest) = parse(&bytes, size.max(bytes.len() as u64));
        prop_assert!(largest < 1 << 20, "{}", largest);
    }
}
