//! The targets. Each checks more than "no panic": what was accepted must keep the promises of its reader.

use std::sync::LazyLock;

use futures::executor::block_on;
use kwaainet_engine::gguf::{Gguf, LARGEST_HEADER, ParseOutcome};
use kwaainet_engine::tokenizer::{EncodeOptions, Tokenizer, TokenizerData};
use kwaainet_engine::{ChatTemplate, Grammar, GrammarError, RenderOptions, ToolFormat, ToolStream};
use kwaainet_node::{Cancel, Deployment, KwaaiNetCore, catalogue};
use kwaainet_platform::Platform;
use kwaainet_testkit::{CatalogueBuilder, consent_record, host_report};
use kwaainet_types::{
    Catalogue, ChatMessage, Chunk, Command, Envelope, Message, Origin, Purpose, Reply, Role, SignedCatalogue,
};

/// A GGUF header, from the network or a disk. The first byte says how the rest is cut.
pub fn gguf(data: &[u8]) {
    let file_size = data.len() as u64;
    let whole = Gguf::parse(data, file_size);
    if let Ok(ParseOutcome::Complete(gguf)) = &whole {
        for tensor in &gguf.tensors {
            let end = tensor.offset.checked_add(tensor.bytes);
            assert!(
                end.is_some_and(|end| end <= file_size),
                "{} lies outside the file",
                tensor.name
            );
            assert!(
                gguf.tensor(&tensor.name).is_some(),
                "{} is not in the index",
                tensor.name
            );
        }
        // Judging the model must be as safe as reading it.
        let _ = kwaainet_engine::check_runnable(gguf);
    }
    if let Ok(ParseOutcome::NeedMore { at_least }) = &whole {
        assert!(*at_least > file_size, "asked for bytes that are there");
    }
    // A prefix may ask for more, or refuse earlier, but never understands another file.
    let cut = data.len() / 2;
    match (Gguf::parse(&data[..cut], file_size), &whole) {
        (Ok(ParseOutcome::Complete(half)), Ok(ParseOutcome::Complete(full))) => assert_eq!(&half, full),
        (Ok(ParseOutcome::Complete(_)), other) => panic!("the prefix is complete, the whole is {other:?}"),
        (Ok(ParseOutcome::NeedMore { at_least }), _) => {
            assert!(
                at_least > cut as u64 && at_least <= LARGEST_HEADER,
                "cannot be satisfied: {at_least}"
            );
        }
        (Err(_), whole) => assert!(whole.is_err(), "refused as a prefix, accepted as a whole"),
    }
}

/// A message on a port.
pub fn envelope(data: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else {
        return;
    };
    if let Message::Command(Command::Chat { request, .. }) = &envelope.message
        && request.check().is_err()
    {
        return;
    }
    let text = serde_json::to_string(&envelope).expect("what was read can be written");
    let again: Envelope = serde_json::from_str(&text).expect("what was written can be read");
    // As text: a double beyond f32 becomes infinite, which JSON writes as null.
    assert_eq!(text, serde_json::to_string(&again).expect("as before"));
}

/// The signed list of models, as fetched; and the same list, properly signed.
pub fn catalogue(data: &[u8]) {
    const SECRET: [u8; 32] = [7; 32];
    let key = catalogue::public_key(&SECRET);
    if let Ok(signed) = serde_json::from_slice::<SignedCatalogue>(data) {
        assert!(
            catalogue::verify(&signed, &key).is_err(),
            "nobody signed this with the key"
        );
    }
    let Ok(read) = serde_json::from_slice::<Catalogue>(data) else {
        return;
    };
    let text = serde_json::to_string(&read).expect("what was read can be written");
    assert_eq!(
        read,
        serde_json::from_str(&text).expect("what was written can be read")
    );
    // Whoever signs checks first, and whoever verifies accepts what was signed, and nothing else.
    match catalogue::sign(&read, &SECRET) {
        Ok(signed) => {
            assert_eq!(
                catalogue::verify(&signed, &key).expect("signed and checked"),
                read
            );
            let other = catalogue::public_key(&[8; 32]);
            assert!(catalogue::verify(&signed, &other).is_err());
        }
        Err(_) => assert!(catalogue::check(&read).is_err()),
    }
}

/// What an earlier visit left in the store: the first byte says whether the rest is the journal of a model (`j`) or
/// the consent record (anything else).
pub fn journal(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let platform = Platform::in_memory();
    let now = platform.clock.unix_ms();
    block_on(async {
        let name = if *kind == b'j' {
            "m.journal"
        } else {
            "consent.json"
        };
        for (name, bytes) in [(name, rest), ("m.gguf", b"GGUF")] {
            let blob = platform.store.open(name, true).await.expect("in memory");
            blob.write_at(0, bytes).await.expect("in memory");
        }
        let node = KwaaiNetCore::new(platform, host_report(), DEPLOYMENT.clone());
        let _ = node.start().await;
        let (cancel, out) = (Cancel::new(), |_: Chunk| {});
        let record = consent_record(&[Purpose::RunAi, Purpose::KeepModel], now);
        for command in [Command::Consent, Command::Grant { record }, Command::Models] {
            let reply = node.dispatch(Origin::Operator, command, &out, &cancel).await;
            if let Ok(Reply::Models { models }) = reply {
                let bytes = models.first().map(|model| (model.stored_bytes, model.bytes));
                assert!(bytes.is_some_and(|(stored, all)| stored <= all), "{bytes:?}");
            }
        }
    });
}

static DEPLOYMENT: LazyLock<Deployment> = LazyLock::new(|| {
    // tests/fuzz/corpus.mjs writes a journal of this very file.
    let bytes = vec![7; (1 << 20) + 5];
    CatalogueBuilder::default()
        .model("m", &bytes, &["https://models.example/m.gguf"])
        .deployment()
});

/// A chat template from a model file, run on a short conversation.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else {
        return;
    };
    let say = |role, text: &str| ChatMessage::new(role, text);
    let messages = [
        say(Role::System, "Be brief."),
        say(Role::User, "Hi {{ bos_token }} {% raw %}"),
        say(Role::Assistant, "Hello"),
        say(Role::User, "日本語 <|im_end|>"),
    ];
    for add_generation_prompt in [true, false] {
        let options = RenderOptions {
            add_generation_prompt,
            now_unix_ms: 1_700_000_000_000,
        };
        let first = template.render(&messages, options);
        if let (Ok(first), Ok(again)) = (&first, template.render(&messages, options)) {
            assert_eq!(*first, again, "the same conversation is written the same way");
        }
    }
}

/// Texts against two small vocabularies, and vocabularies that no file should hold. The first byte says which:
/// `b` and `s` are followed by a text; `v` by model, pre-tokenizer, tokens, merges and a text, separated by U+0002,
/// lists by U+0001.
pub fn tokenizer(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let rest = String::from_utf8_lossy(rest);
    match kind {
        b'b' => both_ways(&BYTE_PAIRS, &rest),
        // SentencePiece writes a space as U+2581, so the two cannot be told apart afterwards.
        b's' => both_ways(&PIECES, &rest.replace('▁', " ")),
        _ => {
            let mut parts = rest.split('\u{2}');
            let mut part = || parts.next().unwrap_or_default();
            let list = |text: &'_ str| -> Vec<String> { text.split('\u{1}').map(str::to_owned).collect() };
            let (model, pre, tokens, merges) = (part(), part(), list(part()), list(part()));
            let scores: Vec<f32> = (0..tokens.len()).map(|at| -(at as f32)).collect();
            let vocabulary = TokenizerData {
                model,
                pre: Some(pre),
                types: tokens.iter().map(|token| (token.len() % 7) as i32).collect(),
                scores,
                tokens: tokens.iter().map(String::as_str).collect(),
                merges: merges
                    .iter()
                    .map(String::as_str)
                    .filter(|merge| !merge.is_empty())
                    .collect(),
                ..TokenizerData::default()
            };
            if let Ok(tokenizer) = Tokenizer::new(&vocabulary) {
                known_tokens(&tokenizer, part());
            }
        }
    }
}

/// Every token that comes out is in the vocabulary.
fn known_tokens(tokenizer: &Tokenizer, text: &str) -> Option<Vec<u32>> {
    let mut plain = None;
    for (add_special, parse_special) in [(true, true), (false, false)] {
        let options = EncodeOptions {
            add_special,
            parse_special,
        };
        let tokens = tokenizer.encode(text, options).ok()?;
        tokenizer
            .decode(&tokens, true)
            .expect("the tokenizer made these tokens");
        plain = Some(tokens);
    }
    plain
}

/// These vocabularies know every byte, so no text may be lost.
fn both_ways(tokenizer: &Tokenizer, text: &str) {
    let tokens = known_tokens(tokenizer, text).expect("every byte has a token");
    assert_eq!(tokenizer.decode(&tokens, false).expect("known"), text);
}

static BYTE_PAIRS: LazyLock<Tokenizer> = LazyLock::new(|| {
    // GPT-2's alphabet: bytes that print stand for themselves, the others for U+0100 and up.
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let alphabet: Vec<String> = (0..=255_u8)
        .map(|byte| {
            let code = if prints(byte) {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code)
                .expect("far below the surrogates")
                .to_string()
        })
        .collect();
    let more = [
        "he",
        "ll",
        "hell",
        "hello",
        "Ġt",
        "Ġth",
        "Ġthe",
        "12",
        "ĊĊ",
        "<|im_start|>",
    ];
    let tokens: Vec<&str> = alphabet.iter().map(String::as_str).chain(more).collect();
    let types = tokens
        .iter()
        .map(|token| if token.starts_with("<|") { 3 } else { 1 })
        .collect();
    Tokenizer::new(&TokenizerData {
        model: "gpt2",
        pre: Some("smollm"),
        types,
        tokens,
        merges: vec![
            "h e", "l l", "he ll", "hell o", "Ġ t", "Ġt h", "Ġth e", "1 2", "Ċ Ċ",
        ],
        add_bos: Some(false),
        ..TokenizerData::default()
    })
    .expect("a sound vocabulary")
});

static PIECES: LazyLock<Tokenizer> = LazyLock::new(|| {
    let bytes: Vec<String> = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let more = [
        "▁", "▁the", "h", "e", "he", "▁h", "l", "ll", "o", "hello", "日", "[INST]",
    ];
    let tokens: Vec<&str> = ["<unk>", "<s>", "</s>"]
        .into_iter()
        .chain(bytes.iter().map(String::as_str))
        .chain(more)
        .collect();
    let types = (0..tokens.len())
        .map(|at| match at {
            0 => 2,
            1 | 2 => 3,
            3..=258 => 6,
            _ => 1,
        })
        .collect();
    Tokenizer::new(&TokenizerData {
        model: "llama",
        types,
        scores: (0..tokens.len()).map(|at| -(at as f32)).collect(),
        tokens,
        add_space_prefix: Some(false),
        ..TokenizerData::default()
    })
    .expect("a sound vocabulary")
});

/// A grammar and, behind a zero, a text to be judged by it.
pub fn grammar(data: &[u8]) {
    judge(data, |rules| Grammar::from_gbnf(rules));
}

/// A JSON schema, likewise.
pub fn schema(data: &[u8]) {
    judge(data, |schema| Grammar::from_json_schema(schema));
}

/// What a model wrote, which may call tools. The first byte says in which notation, the second how the rest is cut.
pub fn tools(data: &[u8]) {
    let [format, cut, text @ ..] = data else { return };
    let format = match format % 4 {
        0 => ToolFormat::Hermes,
        1 => ToolFormat::Llama3,
        2 => ToolFormat::Mistral,
        _ => ToolFormat::Generic,
    };
    let text = String::from_utf8_lossy(text);
    let length = usize::from(*cut).max(1);
    let letters: Vec<char> = text.chars().collect();
    let mut whole = ToolStream::new(format);
    let mut pieces = ToolStream::new(format);
    let said = whole.push(&text);
    let pieced: String = letters
        .chunks(length)
        .map(|piece| pieces.push(&piece.iter().collect::<String>()))
        .collect();
    assert_eq!(said, pieced, "cut into pieces of {length}");
    let calls = whole.finish(true);
    assert_eq!(calls, pieces.finish(true), "cut into pieces of {length}");
    assert!(calls.1.len() <= 16, "more calls than one answer may have");
}

fn judge(data: &[u8], compile: impl Fn(&str) -> Result<Grammar, GrammarError>) {
    let text = String::from_utf8_lossy(data);
    let (source, subject) = text.split_once('\0').unwrap_or((&text, ""));
    if let Ok(grammar) = compile(source) {
        // Both answers are right, and so is that it is too ambiguous to tell.
        let _ = grammar.allows(subject);
    }
}
