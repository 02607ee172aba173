//! Answers questions about this engine on standard input and output, one JSON object per line, for
//! `tests/oracle`: `cargo run -p kwaainet-engine --example oracle_probe`.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool of the tests, not part of the library"
)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use futures::executor::block_on;
use kwaainet_engine::gguf::Gguf;
use kwaainet_engine::tokenizer::{EncodeOptions, Tokenizer};
use kwaainet_engine::{
    ChatTemplate, Generation, GenerationOptions, Grammar, LoadOptions, LoadedModel, RenderOptions,
    SamplerOptions, Session, Step,
};
use kwaainet_testkit::tiny_gguf::{TinyModel, quantise};
use kwaainet_types::{ChatMessage, ConsentGrant, Permit, RunAi, ToolOptions};
use serde_json::{Value, json};

struct Probe {
    permit: Permit<RunAi>,
    session: Option<Session>,
    /// Of a file without tensors.
    vocabulary: Option<Tokenizer>,
}

fn text<'a>(question: &'a Value, key: &str) -> &'a str {
    question[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} must be a text"))
}

fn tokens(question: &Value) -> Vec<u32> {
    serde_json::from_value(question["tokens"].clone()).expect("tokens must be a list of numbers")
}

/// Logits as hexadecimal little-endian floats: exact, and quicker to read than a hundred thousand decimals.
fn hex(logits: &[f32]) -> String {
    logits
        .iter()
        .map(|logit| format!("{:08x}", logit.to_bits()))
        .collect()
}

fn describe(tokenizer: &Tokenizer) -> Value {
    json!({
        "tokens": tokenizer.len(),
        "bos": tokenizer.bos(),
        "eos": tokenizer.eos(),
        "adds_bos": tokenizer.adds_bos(),
        "ends": tokenizer.ends(),
    })
}

impl Probe {
    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("load a model first")
    }

    fn load(&mut self, question: &Value) -> Value {
        let file = std::fs::read(text(question, "path")).expect("the model can be read");
        self.session = None;
        self.vocabulary = None;
        let options = LoadOptions {
            context_length: question["context"].as_u64().unwrap_or(1024) as u32,
            ..LoadOptions::default()
        };
        let mut progress = |_, _| {};
        let model = match block_on(LoadedModel::load(&self.permit, &file, options, &mut progress)) {
            Ok(model) => Arc::new(model),
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let answer = describe(model.tokenizer());
        self.session = Some(Session::new(model).expect("there is memory for a session"));
        answer
    }

    fn prefill(&mut self, tokens: &[u32]) {
        let Self { permit, session, .. } = self;
        let session = session.as_mut().expect("load a model first");
        session.begin(tokens).expect("the tokens fit");
        while session.prefill_step(permit, 64).expect("finite logits") > 0 {}
    }

    fn greedy(&mut self, question: &Value) -> Value {
        let options = GenerationOptions {
            sampler: SamplerOptions::greedy(),
            max_tokens: question["count"].as_u64().expect("count") as usize,
            ..GenerationOptions::default()
        };
        self.generate(question, options)
    }

    /// An answer under a schema, drawn with a seed from everything that the schema allows.
    fn constrained(&mut self, question: &Value) -> Value {
        let grammar = match Grammar::from_json_schema(text(question, "schema")) {
            Ok(grammar) => grammar,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let options = GenerationOptions {
            sampler: SamplerOptions {
                temperature: question["temperature"].as_f64().unwrap_or(1.0) as f32,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                seed: question["seed"].as_u64().unwrap_or(0),
                ..SamplerOptions::default()
            },
            max_tokens: question["count"].as_u64().expect("count") as usize,
            grammar: Some(grammar),
            ..GenerationOptions::default()
        };
        self.generate(question, options)
    }

    fn generate(&mut self, question: &Value, options: GenerationOptions) -> Value {
        let session = self.session.take().expect("load a model first");
        let mut generation = Generation::new(session, &tokens(question), options).expect("the tokens fit");
        let mut ids = Vec::new();
        let mut written = String::new();
        let finish = loop {
            match generation.step(&self.permit).expect("finite logits") {
                Step::Prefilled { .. } => {}
                Step::Token { id, text } => {
                    ids.push(id);
                    written += &text;
                }
                Step::Finished { text, reason, .. } => {
                    written += &text;
                    break reason;
                }
            }
        };
        self.session = Some(generation.into_session());
        json!({ "tokens": ids, "text": written, "finish_reason": finish })
    }

    fn answer(&mut self, question: &Value) -> Value {
        match text(question, "op") {
            "load" => self.load(question),
            "load_vocabulary" => {
                let file = std::fs::read(text(question, "path")).expect("the file can be read");
                self.session = None;
                let gguf = block_on(Gguf::read(&file)).expect("a sound file");
                match Tokenizer::from_metadata(&gguf.metadata) {
                    Ok(tokenizer) => json!(describe(self.vocabulary.insert(tokenizer))),
                    Err(error) => json!({ "error": error.to_string() }),
                }
            }
            "tokenize" => {
                let options = EncodeOptions {
                    add_special: question["add_special"].as_bool().unwrap_or(false),
                    parse_special: question["parse_special"].as_bool().unwrap_or(false),
                };
                let model = self.session.as_ref().map(|session| Arc::clone(session.model()));
                let of_model = model.as_ref().map(|model| model.tokenizer());
                let tokenizer = of_model.or(self.vocabulary.as_ref()).expect("load a model first");
                let tokens = tokenizer.encode(text(question, "text"), options);
                let tokens = tokens.expect("the text can be tokenized");
                let back = tokenizer.decode(&tokens, true).expect("known tokens");
                json!({ "tokens": tokens, "text": back })
            }
            "logits" => {
                self.prefill(&tokens(question));
                json!({ "logits": hex(self.session().logits()) })
            }
            "greedy" => self.greedy(question),
            "constrained" => self.constrained(question),
            "score" => {
                let Self { permit, session, .. } = self;
                let session = session.as_mut().expect("load a model first");
                json!({ "scores": session.score(permit, &tokens(question)).expect("the tokens fit") })
            }
            "template" => {
                let template = ChatTemplate::new(
                    text(question, "source"),
                    text(question, "bos"),
                    text(question, "eos"),
                );
                let messages: Vec<ChatMessage> =
                    serde_json::from_value(question["messages"].clone()).expect("a list of messages");
                let options = RenderOptions {
                    add_generation_prompt: true,
                    now_unix_ms: question["now_unix_ms"].as_u64().unwrap_or(0),
                };
                let tools = ToolOptions {
                    tools: serde_json::from_value(question["tools"].clone()).unwrap_or_default(),
                    ..ToolOptions::default()
                };
                let render = |template: ChatTemplate| template.render_with_tools(&messages, &tools, options);
                match template.and_then(render) {
                    Ok(prompt) => json!({ "prompt": prompt }),
                    Err(error) => json!({ "error": error.to_string() }),
                }
            }
            "quantise" => {
                quantise_part(question).expect("both files are there");
                json!({})
            }
            "tiny" => {
                std::fs::write(text(question, "path"), tiny(question).bytes())
                    .expect("the folder can be written");
                json!({})
            }
            other => panic!("there is no op {other:?}"),
        }
    }
}

/// Floats of a file, in another format, into another file.
fn quantise_part(question: &Value) -> std::io::Result<()> {
    let number = |key: &str| question[key].as_u64().expect("a place or a count");
    let mut from = File::open(text(question, "from"))?;
    from.seek(SeekFrom::Start(number("at")))?;
    let mut floats = vec![0; 4 * number("count") as usize];
    from.read_exact(&mut floats)?;
    let floats: Vec<f32> = floats
        .as_chunks::<4>()
        .0
        .iter()
        .map(|float| f32::from_le_bytes(*float))
        .collect();
    let mut to = OpenOptions::new().write(true).open(text(question, "to"))?;
    to.seek(SeekFrom::Start(number("to_at")))?;
    to.write_all(&quantise(text(question, "format"), &floats))
}

/// A tiny model as the question wants it.
fn tiny(question: &Value) -> TinyModel {
    // Leaked: there are a few dozen of these names in a run.
    let name = |key: &str| -> &'static str { Box::leak(text(question, key).to_owned().into_boxed_str()) };
    let number = |key: &str| question[key].as_u64();
    let is_wanted = |key: &str| question[key].as_bool().unwrap_or(false);
    let mut tiny = TinyModel::new(name("architecture"), name("format"));
    tiny.seed = number("seed").unwrap_or(tiny.seed);
    tiny.layers = number("layers").map_or(tiny.layers, |layers| layers as usize);
    tiny.rope_len = number("rope_len").map_or(tiny.rope_len, |len| len as usize);
    tiny.rope_factors = is_wanted("rope_factors");
    tiny.rope_scale = question["rope_scale"].as_f64().map(|factor| factor as f32);
    if question["rope_scaling"].is_string() {
        tiny.rope_scaling = name("rope_scaling");
    }
    tiny.long_rope = is_wanted("long_rope");
    tiny.original_context = number("original_context").map(|context| context as u32);
    tiny
}

fn main() {
    let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap();
    let mut probe = Probe {
        permit,
        session: None,
        vocabulary: None,
    };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line.unwrap()).expect("one JSON object per line");
        writeln!(out, "{}", probe.answer(&question)).unwrap();
        out.flush().unwrap();
    }
}
