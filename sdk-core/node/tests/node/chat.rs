//! Answers: streamed, resumed, cancelled, queued, refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::{join, join_all};
use kwaainet_node::{Cancel, InferenceRequest, KwaaiNetCore};
use kwaainet_testkit::{CatalogueBuilder, ask, block_on};
use kwaainet_types::{
    ChatDone, ChatRequest, Chunk, Command, ErrorBody, ErrorCode, FinishReason, NodeConfig, Origin,
    PrivacyMode, Reply, RunAi, Service,
};

use crate::home::{ALL, Collected, Home, model_file, tell};

const URL: &str = "https://models.example/m.gguf";

pub(crate) fn home() -> Home {
    let file = model_file(1, 1);
    let home = Home::new(CatalogueBuilder::default().model("m", &file, &[URL]).deployment());
    home.http.serve(URL, file);
    home
}

pub(crate) fn seeded(text: &str, most: u32) -> ChatRequest {
    let mut request = ask(text);
    request.sampling.seed = Some(42);
    request.max_tokens = Some(most);
    request
}

pub(crate) fn chat(
    node: &KwaaiNetCore,
    request: ChatRequest,
    resume: Vec<u32>,
    out: &Collected,
) -> Result<ChatDone, ErrorBody> {
    let command = Command::Chat { request, resume };
    match block_on(node.dispatch(Origin::Site, command, out, &Cancel::new()))? {
        Reply::Chat { done } => Ok(done),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_streamed_and_its_receipt_says_what_it_took() {
    let home = home();
    let node = home.agreed(ALL);
    let out = Collected::default();
    let done = chat(&node, seeded("one two three four five", 10), vec![], &out).unwrap();
    assert_eq!(done.finish_reason, FinishReason::Length);
    assert_eq!(out.text().len(), 10);
    assert_eq!(out.tokens().len(), 10);
    let receipt = &done.receipt;
    assert_eq!(
        (receipt.model.as_str(), receipt.privacy),
        ("m", PrivacyMode::Device)
    );
    assert_eq!((receipt.prompt_tokens, receipt.completion_tokens), (5, 10));
    assert_eq!((receipt.seed, receipt.bytes_sent), (42, 0));
    assert_eq!(receipt.backend, "fake, 1 thread");
    // Two slices of the prompt and the first token, 20 ms each; then nine tokens.
    assert!((receipt.prefill_ms - 60.0).abs() < 1.0, "{}", receipt.prefill_ms);
    assert!((receipt.decode_ms - 180.0).abs() < 1.0, "{}", receipt.decode_ms);
    let metrics = node.contribute_compute();
    assert_eq!(
        (metrics.answers, metrics.prompt_tokens, metrics.completion_tokens),
        (1, 5, 10)
    );
    assert_eq!(metrics.tokens_for_others, 0);
    assert!(metrics.compute_ms >= 240.0);
}

#[test]
fn an_answer_resumed_after_any_token_is_the_uninterrupted_one() {
    let home = home();
    let node = home.agreed(ALL);
    let whole = Collected::default();
    chat(&node, seeded("tell me a story", 12), vec![], &whole).unwrap();
    for delivered in 0..=12 {
        // A new node: the old one died.
        let node = home.node();
        let rest = Collected::default();
        let resume = whole.tokens()[..delivered].to_vec();
        let done = chat(&node, seeded("tell me a story", 12), resume, &rest).unwrap();
        assert_eq!(
            rest.tokens(),
            whole.tokens()[delivered..],
            "after {delivered} tokens"
        );
        assert_eq!(rest.text(), whole.text()[delivered..]);
        assert_eq!(done.finish_reason, FinishReason::Length);
    }
}

#[test]
fn without_a_seed_one_is_chosen_and_told() {
    let home = home();
    let node = home.agreed(ALL);
    let mut request = ask("hi there");
    request.max_tokens = Some(5);
    let (first, second) = (Collected::default(), Collected::default());
    let done = chat(&node, request.clone(), vec![], &first).unwrap();
    request.sampling.seed = Some(done.receipt.seed);
    chat(&node, request, vec![], &second).unwrap();
    assert_eq!(first.text(), second.text());
    assert!(done.receipt.seed < 1 << 53, "JavaScript can hold it");
}

#[test]
fn the_next_turn_takes_over_what_was_read() {
    let home = home();
    let node = home.agreed(ALL);
    let out = Collected::default();
    chat(&node, seeded("a b c d e f", 2), vec![], &out).unwrap();
    let done = chat(&node, seeded("a b c d e f g h", 2), vec![], &out).unwrap();
    assert_eq!(done.receipt.reused_tokens, 6);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let home = home();
    let node = home.agreed(ALL);
    let config = NodeConfig {
        context_length: 64,
        ..NodeConfig::default()
    };
    tell(&node, Origin::Site, Command::Configure { config }).unwrap();
    let words = |count: usize| "word ".repeat(count);
    let error = chat(&node, seeded(&words(100), 5), vec![], &Collected::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::ContextTooLong);
    assert!(
        error.message.contains("100") && error.message.contains("64"),
        "{}",
        error.message
    );
    let error = chat(&node, seeded(&words(64), 5), vec![], &Collected::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::ContextTooLong);
    // One token of room makes one token of answer.
    let done = chat(&node, seeded(&words(63), 5), vec![], &Collected::default()).unwrap();
    assert_eq!(
        (done.receipt.completion_tokens, done.finish_reason),
        (1, FinishReason::Length)
    );
}

#[test]
fn cancelled_while_reading_it_is_an_error_and_while_writing_a_short_answer() {
    let home = home().yielding();
    let node = home.agreed(ALL);
    chat(&node, seeded("warm up", 1), vec![], &Collected::default()).unwrap();

    // 400 words are 100 slices; stop after a few of them.
    let request = seeded(&"word ".repeat(400), 50);
    let cancel = Cancel::new();
    let steps = home.engine.steps.load(Ordering::Relaxed);
    let run = node.dispatch(
        Origin::Site,
        Command::Chat {
            request,
            resume: vec![],
        },
        &|_: Chunk| {},
        &cancel,
    );
    let watched = Watch {
        steps: Arc::clone(&home.engine.steps),
        limit: steps + 5,
        cancel: cancel.clone(),
    };
    let (error, ()) = block_on(join(run, watched));
    assert_eq!(error.unwrap_err().code, ErrorCode::Cancelled);
    let taken = home.engine.steps.load(Ordering::Relaxed) - steps;
    assert!(taken < 20, "{taken} steps were made of 100");

    let cancel = Cancel::new();
    let out = Collected::default();
    let outlet = |chunk: Chunk| {
        out.0.lock().unwrap().push(chunk);
        if out.tokens().len() == 3 {
            cancel.cancel();
        }
    };
    let command = Command::Chat {
        request: seeded("go on", 50),
        resume: vec![],
    };
    let Ok(Reply::Chat { done }) = block_on(node.dispatch(Origin::Site, command, &outlet, &cancel)) else {
        panic!("what there is must be returned");
    };
    assert_eq!(done.finish_reason, FinishReason::Cancelled);
    assert_eq!(done.receipt.completion_tokens as usize, out.tokens().len());
}

/// Cancels when the engine has made so many steps.
struct Watch {
    steps: Arc<std::sync::atomic::AtomicUsize>,
    limit: usize,
    cancel: Cancel,
}

impl Future for Watch {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if self.steps.load(Ordering::Relaxed) >= self.limit {
            self.cancel.cancel();
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }
}

#[test]
fn one_answer_at_a_time_in_the_order_of_asking() {
    let home = home().yielding();
    let node = home.agreed(ALL);
    let finished = std::sync::Mutex::new(Vec::new());
    let asked = (0..20).map(|number| {
        let (node, finished) = (&node, &finished);
        async move {
            let command = Command::Chat {
                request: seeded(&format!("question {number}"), 4),
                resume: vec![],
            };
            let reply = node
                .dispatch(Origin::Site, command, &|_: Chunk| {}, &Cancel::new())
                .await;
            assert!(reply.is_ok(), "{reply:?}");
            finished.lock().unwrap().push(number);
        }
    });
    block_on(join_all(asked));
    assert!(finished.lock().unwrap().is_sorted(), "{finished:?}");
    assert_eq!(
        home.engine.runs.1.load(Ordering::SeqCst),
        1,
        "two answers ran at once"
    );
    assert_eq!(home.engine.loads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_queue_that_is_full_says_busy_and_loses_nobody() {
    let home = home().yielding();
    let node = home.agreed(ALL);
    chat(&node, seeded("warm up", 1), vec![], &Collected::default()).unwrap();
    let asked = (0..1000).map(|number| {
        let node = &node;
        async move {
            let command = Command::Chat {
                request: seeded(&format!("question {number}"), 2),
                resume: vec![],
            };
            node.dispatch(Origin::Site, command, &|_: Chunk| {}, &Cancel::new())
                .await
        }
    });
    let replies = block_on(join_all(asked));
    let answered = replies.iter().filter(|reply| reply.is_ok()).count();
    let busy = replies
        .iter()
        .filter(|reply| matches!(reply, Err(error) if error.code == ErrorCode::Busy && error.retryable))
        .count();
    assert_eq!(answered + busy, 1000);
    assert_eq!(answered, 257, "one runs, 256 wait");
}

#[test]
fn one_who_leaves_the_queue_does_not_hold_up_the_others() {
    let home = home().yielding();
    let node = home.agreed(ALL);
    let command = |text: &str| Command::Chat {
        request: seeded(text, 3),
        resume: vec![],
    };
    let (leaver, stays) = (Cancel::new(), Cancel::new());
    let nothing = |_: Chunk| {};
    let first = node.dispatch(Origin::Site, command("first"), &nothing, &stays);
    let second = node.dispatch(Origin::Site, command("second"), &nothing, &leaver);
    let third = node.dispatch(Origin::Site, command("third"), &nothing, &stays);
    let watch = Watch {
        steps: Arc::clone(&home.engine.steps),
        limit: 1,
        cancel: leaver.clone(),
    };
    let ((first, third), (second, ())) = block_on(join(join(first, third), join(second, watch)));
    assert!(first.is_ok() && third.is_ok());
    assert_eq!(second.unwrap_err().code, ErrorCode::Cancelled);
}

#[test]
fn what_cannot_be_answered_is_refused_before_anything_is_fetched() {
    let home = home();
    let node = home.agreed(ALL);
    let mut hot = ask("x");
    hot.sampling.temperature = Some(9.0);
    let mut unknown = ask("x");
    unknown.model = Some("gpt-99".into());
    for (request, code, word) in [
        (hot, ErrorCode::BadRequest, "temperature"),
        (unknown, ErrorCode::ModelNotFound, "there are m"),
        (ChatRequest::new(vec![]), ErrorCode::BadRequest, "messages"),
    ] {
        let error = chat(&node, request, vec![], &Collected::default()).unwrap_err();
        assert_eq!(error.code, code);
        assert!(error.message.contains(word), "{}", error.message);
    }
    let config = NodeConfig {
        services: vec![Service::Storage],
        ..NodeConfig::default()
    };
    tell(&node, Origin::Site, Command::Configure { config }).unwrap();
    let error = chat(&node, ask("x"), vec![], &Collected::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotAllowed);
    assert!(home.http.requests().is_empty());
}

#[test]
fn the_methods_of_the_specification_answer_too() {
    let home = home();
    let node = home.node();
    block_on(node.initialize(NodeConfig::default())).unwrap();
    node.grant_operator();
    let permit = node.permit::<RunAi>().unwrap();
    let handle = block_on(node.load_model(&permit, "m")).unwrap();
    assert_eq!((handle.id.as_str(), handle.context_length), ("m", 2048));
    let mut request = InferenceRequest::from(seeded("hello", 6));
    let answer = block_on(node.run_inference(&permit, request.clone())).unwrap();
    assert_eq!((answer.text.len(), answer.tokens.len()), (6, 6));
    request.chat.messages.clear();
    request.raw = Some("hello".to_owned());
    assert_eq!(
        block_on(node.run_inference(&permit, request)).unwrap().text,
        answer.text
    );
    assert!(
        home.blobs().iter().all(|name| !name.starts_with("consent")),
        "an operator's consent is not written down"
    );
}

#[test]
fn the_processor_cap_slows_an_answer_down() {
    let home = home();
    let node = home.agreed(ALL);
    let mut config = NodeConfig::default();
    config.max_resources.cpu = 20;
    tell(&node, Origin::Site, Command::Configure { config }).unwrap();
    chat(&node, seeded("warm up", 20), vec![], &Collected::default()).unwrap();
    let start = kwaainet_platform::Clock::monotonic_ms(&*home.clock);
    chat(&node, seeded("x", 300), vec![], &Collected::default()).unwrap();
    let took = kwaainet_platform::Clock::monotonic_ms(&*home.clock) - start;
    // 301 steps of 20 ms, and the last step that says that it is over.
    let duty = 302.0 * 20.0 / took * 100.0;
    assert!((duty - 20.0).abs() < 1.0, "{duty}");
}
