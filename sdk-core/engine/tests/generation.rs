//! An answer that is interrupted anywhere and resumed is the answer that was never interrupted.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one reads a model file if there is one"
)]

use std::sync::Arc;

use futures::executor::block_on;
use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{
    EngineError, Generation, GenerationOptions, Grammar, LoadOptions, LoadedModel, SamplerOptions, Session,
    Step, ToolFormat, ToolStream, Usage,
};
use kwaainet_testkit::NewThreads;
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_types::{ConsentGrant, FinishReason, Permit, RunAi, Tool, ToolChoice, ToolOptions};

fn permit() -> Permit<RunAi> {
    ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap()
}

fn load(file: &Vec<u8>, context_length: u32) -> Arc<LoadedModel> {
    let options = LoadOptions {
        context_length,
        ..LoadOptions::default()
    };
    Arc::new(block_on(LoadedModel::load(&permit(), file, options, &mut |_, _| {})).unwrap())
}

fn tiny(architecture: &'static str, context: u32) -> Arc<LoadedModel> {
    load(&TinyModel::new(architecture, "Q8_0").bytes(), context)
}

/// Tokens with the text that came with each, the rest of the text, why it ended.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    pieces: Vec<(u32, String)>,
    rest: String,
    reason: FinishReason,
    usage: Usage,
}

impl Answer {
    fn text(&self) -> String {
        let pieces: String = self.pieces.iter().map(|(_, text)| text.as_str()).collect();
        pieces + &self.rest
    }
}

fn generate(session: Session, prompt: &[u32], options: GenerationOptions) -> (Answer, Session) {
    let permit = permit();
    let mut generation = Generation::new(session, prompt, options).unwrap();
    let mut pieces = Vec::new();
    loop {
        match generation.step(&permit).unwrap() {
            Step::Prefilled { done, total } => assert!(done <= total),
            Step::Token { id, text } => pieces.push((id, text)),
            Step::Finished { reason, text, usage } => {
                assert!(matches!(
                    generation.step(&permit),
                    Err(EngineError::WrongOrder(_))
                ));
                let answer = Answer {
                    pieces,
                    rest: text,
                    reason,
                    usage,
                };
                return (answer, generation.into_session());
            }
        }
    }
}

fn fresh(model: &Arc<LoadedModel>, prompt: &[u32], options: GenerationOptions) -> Answer {
    generate(Session::new(Arc::clone(model)).unwrap(), prompt, options).0
}

fn resumed_everywhere(model: &Arc<LoadedModel>, prompt: &[u32], options: &GenerationOptions) -> Answer {
    let whole = fresh(model, prompt, options.clone());
    for cut in 0..=whole.pieces.len() {
        let (before, after) = whole.pieces.split_at(cut);
        let resumed = fresh(
            model,
            prompt,
            GenerationOptions {
                resume: before.iter().map(|(id, _)| *id).collect(),
                // Another slice than the first run had, as another device might choose.
                prefill_slice: 5 + cut,
                ..options.clone()
            },
        );
        assert_eq!(resumed.pieces, after, "cut at {cut} of {:?}", whole.pieces);
        assert_eq!(
            (&resumed.rest, resumed.reason),
            (&whole.rest, whole.reason),
            "cut at {cut}"
        );
        assert_eq!(resumed.usage.completion_tokens, whole.usage.completion_tokens);
    }
    whole
}

fn sampled(seed: u64, max_tokens: usize) -> GenerationOptions {
    GenerationOptions {
        sampler: SamplerOptions {
            temperature: 1.5,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.2,
            seed,
            ..SamplerOptions::default()
        },
        max_tokens,
        ..GenerationOptions::default()
    }
}

#[test]
fn a_resumed_answer_equals_the_uninterrupted_one() {
    for architecture in ["llama", "gemma3"] {
        let model = tiny(architecture, 256);
        for seed in 0..2 {
            let whole = resumed_everywhere(&model, &[5, 9, 13, 40, 41], &sampled(seed, 24));
            assert!(!whole.pieces.is_empty(), "{architecture}, seed {seed}");
        }
    }
}

#[test]
fn stop_strings_and_broken_characters_survive_every_cut() {
    let model = tiny("llama", 256);
    // A random model writes random bytes: find a stop string that ends its answer over a border of tokens.
    let whole = fresh(&model, &[5, 9, 13], sampled(3, 30));
    let text = whole.text();
    assert!(
        text.contains('\u{fffd}'),
        "the sample has broken characters: {text:?}"
    );
    let characters: Vec<char> = text.chars().collect();
    let mut stopped = 0;
    for start in (2..characters.len().saturating_sub(4)).step_by(3) {
        let stop: String = characters[start..start + 3].iter().collect();
        let options = GenerationOptions {
            stop: vec![stop.clone(), "never seen".to_owned()],
            ..sampled(3, 30)
        };
        let answer = resumed_everywhere(&model, &[5, 9, 13], &options);
        assert!(!answer.text().contains(&stop));
        assert!(text.starts_with(&answer.text()));
        stopped += usize::from(answer.reason == FinishReason::Stop);
    }
    assert!(stopped > 0);
}

#[test]
fn the_context_is_the_last_limit() {
    let model = tiny("llama", 32);
    let prompt: Vec<u32> = (1..=20).collect();
    let whole = resumed_everywhere(&model, &prompt, &sampled(1, 1000));
    if whole.reason == FinishReason::Length {
        // The last token needs no place in the context.
        assert_eq!(whole.pieces.len(), 13);
    }
    let session = Session::new(Arc::clone(&model)).unwrap();
    let long: Vec<u32> = (0..40).collect();
    let error = Generation::new(session, &long, sampled(1, 5)).unwrap_err();
    let expected = EngineError::ContextFull {
        needed: 40,
        available: 32,
    };
    assert_eq!(error, expected);
}

#[test]
fn the_next_turn_reuses_the_conversation() {
    let model = tiny("qwen3", 256);
    let prompt: Vec<u32> = (10..60).collect();
    let session = Session::new(Arc::clone(&model)).unwrap();
    let (first, session) = generate(session, &prompt, sampled(1, 8));
    let mut next = prompt.clone();
    next.extend(first.pieces.iter().map(|(id, _)| *id));
    next.extend([7, 8, 9]);
    let (second, _) = generate(session, &next, sampled(2, 8));
    let evaluated = prompt.len() + first.pieces.len() - 1;
    assert_eq!(second.usage.reused_tokens, evaluated, "{:?}", second.usage);
    assert_eq!(second.pieces, fresh(&model, &next, sampled(2, 8)).pieces);
}

#[test]
fn a_step_computes_its_slice_and_ends_between_layers() {
    // Every layer asks for the same number of computations.
    let threads = Arc::new(NewThreads::new(2));
    let options = LoadOptions {
        context_length: 256,
        parallel: Arc::<NewThreads>::clone(&threads),
        ..LoadOptions::default()
    };
    let mut model = TinyModel::new("llama", "Q8_0");
    model.layers = 8;
    let file = model.bytes();
    let model = Arc::new(block_on(LoadedModel::load(&permit(), &file, options, &mut |_, _| {})).unwrap());
    let prompt: Vec<u32> = (0..200).map(|at| at % 90).collect();
    // Slice, and the steps that 200 tokens in 8 layers then take: 25 blocks of 8 a layer at a time; 4 blocks of 64 (the
    // last of 8) by 2 layers; 3 of 65 and one of 5 whole.
    for (slice, steps) in [(1, 25 * 8), (16, 3 * 4 + 1), (65, 4)] {
        let session = Session::new(Arc::clone(&model)).unwrap();
        let options = GenerationOptions {
            prefill_slice: slice,
            ..sampled(1, 1)
        };
        let mut generation = Generation::new(session, &prompt, options).unwrap();
        let (mut computed, mut last) = (Vec::new(), 0);
        let mut before = threads.computations();
        while let Step::Prefilled { done, total } = generation.step(&permit()).unwrap() {
            assert!(done >= last && total == 200);
            last = done;
            let now = threads.computations();
            computed.push(now - before);
            before = now;
        }
        assert_eq!((last, computed.len()), (200, steps), "slices of {slice}");
        if slice == 1 {
            // Of the last layer what nobody wants is left out, and behind the prompt comes the head.
            let most = computed.iter().max().unwrap();
            assert!(
                *most <= computed[0] + 1,
                "{most} computations in a step, {} in a layer",
                computed[0]
            );
        }
    }
}

#[test]
fn a_prompt_given_up_between_layers_leaves_a_session_that_knows_what_it_knew() {
    let model = tiny("gemma3", 256);
    let prompt: Vec<u32> = (0..150).map(|at| at % 90).collect();
    let expected = fresh(&model, &prompt, sampled(3, 12));
    for steps in [1, 2, 9, 30] {
        let options = GenerationOptions {
            prefill_slice: 2,
            ..sampled(3, 12)
        };
        let session = Session::new(Arc::clone(&model)).unwrap();
        let mut generation = Generation::new(session, &prompt, options).unwrap();
        let mut known = 0;
        for _ in 0..steps {
            let Step::Prefilled { done, .. } = generation.step(&permit()).unwrap() else {
                panic!("the prompt is longer than that");
            };
            known = done;
        }
        let (answer, _) = generate(generation.into_session(), &prompt, sampled(3, 12));
        assert_eq!(answer.usage.reused_tokens, known, "given up after {steps} steps");
        assert_eq!(answer.pieces, expected.pieces);
    }
}

#[test]
fn guessing_ahead_changes_nothing_that_is_told() {
    let mut guessed = 0;
    for (architecture, cases) in [
        ("llama", &[(1, 0.0), (2, 0.0), (3, 0.3), (4, 1.5)][..]),
        ("gemma3", &[(1, 0.0), (3, 0.3)]),
        ("qwen2", &[(2, 0.0)]),
        ("qwen3", &[(2, 0.0)]),
    ] {
        let model = tiny(architecture, 96);
        for &(seed, temperature) in cases {
            // A prompt with a circle in it, so that there is something to guess from the first token on.
            let prompt: Vec<u32> = (0..20).map(|at| at % 7 + seed as u32).collect();
            let mut options = sampled(seed, 60);
            options.sampler.temperature = temperature;
            options.sampler.repetition_penalty = if seed == 1 { 1.0 } else { 1.05 };
            let with = fresh(&model, &prompt, options.clone());
            let without = fresh(
                &model,
                &prompt,
                GenerationOptions {
                    guesses: 0,
                    ..options
                },
            );
            assert_eq!(without.usage.guessed_tokens, 0);
            guessed += with.usage.guessed_tokens;
            assert_eq!(with.pieces, without.pieces, "{architecture}, seed {seed}");
            assert_eq!((&with.rest, with.reason), (&without.rest, without.reason));
            let (with, without) = (with.usage, without.usage);
            assert_eq!(with.completion_tokens, without.completion_tokens);
        }
    }
    assert!(guessed > 50, "only {guessed} tokens were guessed");
}

#[test]
fn a_session_goes_on_from_what_was_chosen_not_from_what_was_guessed() {
    let model = tiny("gemma3", 64);
    let plain = |tokens: &[u32]| {
        let mut session = Session::new(Arc::clone(&model)).unwrap();
        session.begin(tokens).unwrap();
        while session.prefill_step(&permit(), 64).unwrap() > 0 {}
        session.logits().to_vec()
    };
    let mut session = Session::new(Arc::clone(&model)).unwrap();
    session.begin(&[1, 2, 3]).unwrap();
    while session.prefill_step(&permit(), 64).unwrap() > 0 {}
    let mut seen = Vec::new();
    // The second guess is wrong: 9 is chosen where 8 was guessed.
    let mut choices = [7, 9].into_iter();
    let mut choose = |tokens: &[u32], logits: &[f32]| {
        seen.push((tokens.to_vec(), logits.to_vec()));
        choices.next()
    };
    let right = session.decode_guesses(&permit(), 6, &[7, 8, 5], &mut choose);
    assert_eq!(right, Ok(1));
    assert_eq!(session.tokens(), [1, 2, 3, 6, 7]);
    assert_eq!(session.evaluated(), 5);
    assert!(session.logits().is_empty());
    assert_eq!(seen.len(), 2);
    for (tokens, logits) in &seen {
        assert!(*logits == plain(tokens), "logits to the bit, behind {tokens:?}");
    }
    session.decode(&permit(), 9).unwrap();
    assert!(session.logits() == plain(&[1, 2, 3, 6, 7, 9]));
    // At the end of the context guesses are left out; one token too many is an error, and changes nothing.
    let most: Vec<u32> = (0..62).collect();
    session.begin(&most).unwrap();
    while session.prefill_step(&permit(), 64).unwrap() > 0 {}
    let mut always = |_: &[u32], _: &[f32]| Some(4);
    let right = session.decode_guesses(&permit(), 4, &[4, 4, 4, 4], &mut always);
    assert_eq!(right, Ok(1));
    assert_eq!(session.evaluated(), 64);
    let error = session.decode_guesses(&permit(), 4, &[4], &mut always);
    let full = EngineError::ContextFull {
        needed: 65,
        available: 64,
    };
    assert_eq!(error, Err(full));
    assert_eq!(session.evaluated(), 64);
}

#[test]
fn options_out_of_range_are_named() {
    let model = tiny("llama", 64);
    let default = GenerationOptions::default;
    for (options, name) in [
        (
            GenerationOptions {
                max_tokens: 0,
                ..default()
            },
            "max_tokens",
        ),
        (
            GenerationOptions {
                prefill_slice: 0,
                ..default()
            },
            "prefill_slice",
        ),
        (
            GenerationOptions {
                stop: vec![String::new()],
                ..default()
            },
            "stop",
        ),
        (
            GenerationOptions {
                stop: vec!["x".repeat(300)],
                ..default()
            },
            "stop",
        ),
        (
            GenerationOptions {
                stop: vec!["x".to_owned(); 20],
                ..default()
            },
            "stop",
        ),
    ] {
        let session = Session::new(Arc::clone(&model)).unwrap();
        match Generation::new(session, &[1], options).unwrap_err() {
            EngineError::Options(error) => assert_eq!(error.name, name),
            other => panic!("{other}"),
        }
    }
    let session = Session::new(Arc::clone(&model)).unwrap();
    assert_eq!(
        Generation::new(session, &[], default()).unwrap_err(),
        EngineError::NoTokens
    );
}

/// With real weights, if they have been fetched: prompt by template, greedy and sampled.
#[test]
fn real_weights_resume_at_every_token() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.cache/models/smollm2-135m-instruct-q4_1.gguf"
    );
    let Ok(file) = std::fs::read(path) else {
        eprintln!("SKIPPED: real_weights_resume_at_every_token: there is no {path}");
        return;
    };
    let model = load(&file, 256);
    let options = EncodeOptions {
        add_special: true,
        parse_special: true,
    };
    let prompt = "<|im_start|>user\nWrite three emoji and a café in 東京.<|im_end|>\n<|im_start|>assistant\n";
    let prompt = model.tokenizer().encode(prompt, options).expect("a short text");
    for options in [
        GenerationOptions {
            sampler: SamplerOptions::greedy(),
            max_tokens: 5,
            ..GenerationOptions::default()
        },
        GenerationOptions {
            stop: vec!["caf".to_owned(), ".\n".to_owned()],
            ..sampled(42, 6)
        },
    ] {
        resumed_everywhere(&model, &prompt, &options);
    }
}

#[test]
fn an_answer_under_a_grammar_follows_it_with_guesses_and_when_resumed() {
    let model = tiny("llama", 256);
    let schema =
        r#"{ "type": "array", "items": { "enum": ["ab", 12, null] }, "minItems": 3, "maxItems": 6 }"#;
    let grammar = Grammar::from_json_schema(schema).unwrap();
    let greedy = GenerationOptions {
        sampler: SamplerOptions::greedy(),
        max_tokens: 120,
        ..GenerationOptions::default()
    };
    for options in [greedy, sampled(1, 120), sampled(2, 120)] {
        let options = GenerationOptions {
            grammar: Some(grammar.clone()),
            ..options
        };
        let answer = resumed_everywhere(&model, &[1, 5, 9], &options);
        assert_eq!(answer.reason, FinishReason::Stop);
        assert!(grammar.allows(&answer.text()).unwrap(), "{}", answer.text());
        let unguessed = GenerationOptions {
            guesses: 0,
            ..options
        };
        assert_eq!(fresh(&model, &[1, 5, 9], unguessed).pieces, answer.pieces);
    }
}

#[test]
fn tokens_that_a_grammar_forbids_cannot_be_resumed_from() {
    let model = tiny("llama", 64);
    let options = GenerationOptions {
        grammar: Some(Grammar::from_gbnf("root ::= \"\\x00\"").unwrap()),
        resume: vec![5, 5],
        ..GenerationOptions::default()
    };
    let session = Session::new(Arc::clone(&model)).unwrap();
    let error = Generation::new(session, &[1], options).unwrap_err();
    assert!(error.to_string().contains("do not follow the grammar"), "{error}");
}

#[test]
fn a_mark_that_counts_as_text_is_chosen_told_and_resumed_from() {
    let model = tiny("llama", 64);
    let start = model.tokenizer().id("<|im_start|>").unwrap();
    let grammar = Grammar::from_gbnf(r#"root ::= "<|im_start|>" [ab]{3}"#).unwrap();
    // The likeliest token needs no mask, and a drawn one does.
    for sampler in [SamplerOptions::greedy(), sampled(3, 9).sampler] {
        let options = GenerationOptions {
            sampler: SamplerOptions {
                logit_bias: vec![(start, 100.0)],
                ..sampler
            },
            grammar: Some(grammar.clone()),
            ..GenerationOptions::default()
        };
        let marked = GenerationOptions {
            marks: vec!["<|im_start|>".to_owned(), "there is no such token".to_owned()],
            ..options.clone()
        };
        let answer = resumed_everywhere(&model, &[1, 5, 9], &marked);
        assert_eq!(answer.pieces.first(), Some(&(start, "<|im_start|>".to_owned())));
        assert!(grammar.allows(&answer.text()).unwrap());
        // Where it does not count, the same text is spelled.
        let spelled = fresh(&model, &[1, 5, 9], options);
        assert!(spelled.pieces.iter().all(|(id, _)| *id != start));
        assert!(grammar.allows(&spelled.text()).unwrap());
        let session = Session::new(Arc::clone(&model)).unwrap();
        let resume = answer.pieces.iter().map(|(id, _)| *id).collect();
        let resumed = Generation::new(session, &[1, 5, 9], GenerationOptions { resume, ..marked }).unwrap();
        assert_eq!(resumed.resumed_text(), answer.text());
    }
}

#[test]
fn whatever_the_model_would_rather_write_a_call_is_valid() {
    let model = tiny("llama", 512);
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"},"kind":{"enum":["a","b c"]},
        "name":{"type":"string","maxLength":5}},"required":["kind","name"],"additionalProperties":false}"#;
    let tools = ToolOptions {
        tools: vec![Tool {
            name: "f".to_owned(),
            description: None,
            parameters: Some(schema.to_owned()),
        }],
        tool_choice: Some(ToolChoice::Required),
        parallel_tool_calls: None,
    };
    let arguments = Grammar::from_json_schema(schema).unwrap();
    let formats = [
        ToolFormat::Hermes,
        ToolFormat::Llama3,
        ToolFormat::Mistral,
        ToolFormat::Generic,
    ];
    for (seed, format) in (0..).zip(formats) {
        let options = GenerationOptions {
            grammar: format.grammar(&tools).unwrap(),
            marks: format.marks().iter().map(|mark| (*mark).to_owned()).collect(),
            ..sampled(seed, 400)
        };
        let answer = fresh(&model, &[1, 5, 9], options);
        assert_eq!(answer.reason, FinishReason::Stop);
        let mut stream = ToolStream::new(format);
        let said: String = answer.pieces.iter().map(|(_, text)| stream.push(text)).collect();
        assert_eq!(said + &stream.push(&answer.rest), "");
        let (rest, calls) = stream.finish(true);
        assert_eq!((rest.as_str(), calls.len()), ("", 1), "{}", answer.text());
        let valid = calls
            .iter()
            .all(|call| call.name == "f" && arguments.allows(&call.arguments).unwrap());
        assert!(valid, "{}", answer.text());
    }
}
