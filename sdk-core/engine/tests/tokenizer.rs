//! The tokenizer against llama.cpp's token ids, written by `tests/oracle/golden.mjs`, and against hostile texts.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one measures time"
)]

use kwaainet_engine::tokenizer::{EncodeOptions, LONGEST_TEXT, Tokenizer, TokenizerData, TokenizerError};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/tokenizer.json")).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_str(include_str!("../../../tests/oracle/fixtures/texts.json")).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

fn numbers(value: &Value) -> Vec<i32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn data<'a>(golden: &'a Value, name: &'a str) -> TokenizerData<'a> {
    if name.starts_with("llama (SPM)") {
        let spm = &golden["spm"];
        return TokenizerData {
            model: "llama",
            tokens: strings(&spm["tokens"]),
            scores: numbers(&spm["scores"])
                .into_iter()
                .map(|score| score as f32)
                .collect(),
            types: numbers(&spm["types"]),
            bos: Some(1),
            eos: Some(2),
            add_space_prefix: Some(!name.contains("without")),
            ..TokenizerData::default()
        };
    }
    let bpe = &golden["bpe"];
    TokenizerData {
        model: "gpt2",
        pre: Some(name),
        tokens: strings(&bpe["tokens"]),
        types: numbers(&bpe["types"]),
        merges: strings(&bpe["merges"]),
        bos: Some(0),
        eos: Some(0),
        ..TokenizerData::default()
    }
}

/// FNV-1a over the ids as decimal numbers, as golden.mjs writes it.
fn digest(ids: &[u32]) -> String {
    let text: String = ids.iter().map(|id| format!("{id},")).collect();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{}:{hash:016x}", ids.len())
}

const fn plain(parse_special: bool) -> EncodeOptions {
    EncodeOptions {
        add_special: false,
        parse_special,
    }
}

#[test]
fn ids_are_those_of_llama_cpp() {
    let golden = golden();
    let texts = texts();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let tokenizer = Tokenizer::new(&data(&golden, name)).unwrap();
        for (mode, parse_special) in [("special", true), ("plain", false)] {
            for (text, expected) in texts.iter().zip(strings(&case[mode])) {
                let ids = tokenizer.encode(text, plain(parse_special)).unwrap();
                assert_eq!(digest(&ids), expected, "{name}, {mode}: {text:?} became {ids:?}");
            }
        }
        let prefix = if tokenizer.adds_bos() {
            vec![tokenizer.bos().unwrap()]
        } else {
            Vec::new()
        };
        assert_eq!(serde_json::to_value(prefix).unwrap(), case["prefix"], "{name}");
        assert_eq!(
            serde_json::to_value(tokenizer.ends()).unwrap(),
            case["ends"],
            "{name}"
        );
    }
}

#[test]
fn text_comes_back() {
    let golden = golden();
    for name in ["gpt-2", "llama-bpe", "llama (SPM) without space prefix"] {
        let tokenizer = Tokenizer::new(&data(&golden, name)).unwrap();
        for text in texts() {
            let ids = tokenizer.encode(&text, plain(true)).unwrap();
            let expected = if name.contains("SPM") {
                text.replace('▁', " ")
            } else {
                text.clone()
            };
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), expected, "{name}");
        }
    }
}

#[test]
fn what_a_visitor_types_is_never_a_control_token() {
    let golden = golden();
    let tokenizer = Tokenizer::new(&data(&golden, "smollm")).unwrap();
    let control = tokenizer.id("<|im_end|>").unwrap();
    let ids = tokenizer.encode("a<|im_end|>b", plain(false)).unwrap();
    assert!(!ids.contains(&control));
    assert!(
        tokenizer
            .encode("a<|im_end|>b", plain(true))
            .unwrap()
            .contains(&control)
    );
    assert!(tokenizer.is_end(control) && tokenizer.is_control(control));
    assert_eq!(tokenizer.decode(&[control], false).unwrap(), "");
    assert_eq!(tokenizer.decode(&[control], true).unwrap(), "<|im_end|>");
}

/// A megabyte of each must not take a minute: every step is linear, up to a logarithm. The limit is generous,
/// because machines of tests are busy; a quadratic step takes hours.
#[test]
fn hostile_texts_take_linear_time() {
    let golden = golden();
    let hostile = [
        "a",
        " ",
        "👨\u{200d}",
        "\n",
        "\t \n",
        "1",
        "'",
        "<",
        "<|im_start|>",
        "<|im_start",
        "\u{301}",
        "中",
        "aA",
        "\u{a0}",
        "!\n",
        "é",
        "\0",
        "a ",
    ];
    // A megabyte of the first three everywhere; less of the rest, for the time that it takes.
    let of_size =
        |index: usize, unit: &str| unit.repeat((if index < 3 { 1 << 20 } else { 1 << 17 }) / unit.len());
    let names = [
        "default",
        "llama-bpe",
        "qwen35",
        "deepseek-v3",
        "gpt-4o",
        "llama (SPM)",
    ];
    for name in names {
        let tokenizer = Tokenizer::new(&data(&golden, name)).unwrap();
        for (index, unit) in hostile.into_iter().enumerate() {
            let text = of_size(index, unit);
            let started = std::time::Instant::now();
            tokenizer.encode(&text, plain(true)).unwrap();
            let seconds = started.elapsed().as_secs_f64();
            let bytes = text.len();
            assert!(
                seconds < 60.0,
                "{name} took {seconds} s for {bytes} bytes of {unit:?}"
            );
        }
    }
}

#[test]
fn a_text_beyond_the_limit_is_refused() {
    let golden = golden();
    let tokenizer = Tokenizer::new(&data(&golden, "smollm")).unwrap();
    let error = tokenizer
        .encode(&"a".repeat(LONGEST_TEXT + 1), plain(false))
        .unwrap_err();
    assert!(matches!(error, TokenizerError::TextTooLong { .. }));
    let error = tokenizer.decode(&[1 << 30], false).unwrap_err();
    assert!(matches!(error, TokenizerError::UnknownToken { .. }));
}

#[test]
fn damaged_vocabularies_are_refused_by_name() {
    let golden = golden();
    let good = || data(&golden, "smollm");
    let spm = || data(&golden, "llama (SPM)");
    let long = "x".repeat(5000);
    let cases: [(TokenizerData<'_>, &str); 8] = [
        (
            TokenizerData {
                model: "bert",
                ..good()
            },
            "\"bert\" is not supported",
        ),
        (
            TokenizerData {
                pre: Some("nonsense"),
                ..good()
            },
            "\"nonsense\" is not supported. Supported are: a.x-4.0",
        ),
        (
            TokenizerData {
                tokens: Vec::new(),
                ..good()
            },
            "empty vocabulary",
        ),
        (
            TokenizerData {
                types: vec![1; 5],
                ..good()
            },
            "token_type has 5 entries",
        ),
        (
            TokenizerData {
                scores: vec![0.0; 5],
                ..spm()
            },
            "scores has 5 entries",
        ),
        (
            TokenizerData {
                scores: vec![f32::NAN; 9999],
                ..spm()
            },
            "not a number",
        ),
        (
            TokenizerData {
                tokens: vec![&long],
                types: Vec::new(),
                ..good()
            },
            "5000 bytes",
        ),
        (
            TokenizerData {
                tokens: vec!["a"],
                types: Vec::new(),
                bos: Some(7),
                add_bos: Some(true),
                ..good()
            },
            "beginning-of-text",
        ),
    ];
    for (data, expected) in cases {
        let error = Tokenizer::new(&data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn odd_vocabularies_work_with_a_warning() {
    let golden = golden();
    let mut odd = data(&golden, "smollm");
    odd.pre = None;
    odd.tokens.extend(["", "<|endoftext|>"]);
    odd.types.extend([1, 3]);
    odd.merges.extend(["", "x", " y", "a  b", "Ġ Ġ Ġ"]);
    odd.eos = Some(1 << 20);
    let tokenizer = Tokenizer::new(&odd).unwrap();
    let warnings = tokenizer.warnings().join("\n");
    for expected in ["no pre-tokenizer", "same text", "outside the vocabulary"] {
        assert!(warnings.contains(expected), "{warnings}");
    }
    tokenizer.encode("a b  c", plain(true)).unwrap();
}

#[test]
fn texts_are_framed_as_the_model_wants() {
    let golden = golden();
    let framed = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let spm = Tokenizer::new(&data(&golden, "llama (SPM)")).unwrap();
    assert_eq!(spm.encode("", framed).unwrap(), [1]);
    assert_eq!(spm.encode("", plain(false)).unwrap(), [0; 0]);
    let mut both = data(&golden, "llama (SPM)");
    both.add_eos = Some(true);
    let ids = Tokenizer::new(&both).unwrap().encode("a", framed).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    // Phi-3 is known by its name only: spaces behind its special tokens vanish.
    let mut phi = data(&golden, "smollm");
    phi.name = "Phi-3 mini";
    let phi = Tokenizer::new(&phi).unwrap();
    let spaced = phi.encode("<|im_end|> \n a", plain(true)).unwrap();
    assert_eq!(spaced, phi.encode("<|im_end|>a", plain(true)).unwrap());
}
