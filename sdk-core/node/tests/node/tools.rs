//! Calls of tools. The fake model knows no template, so it writes the generic notation.

use kwaainet_types::{ChatDone, ChatRequest, ErrorCode, FinishReason, ResponseFormat, Tool, ToolChoice};

use crate::chat::{chat, home, seeded};
use crate::home::{ALL, Collected, Home};

const CALL: &str = r#"{"tool_call": {"name": "add", "arguments": {"a": 1}}}"#;
const ANSWER: &str = r#"{"response": "It is \"3\"\n, so \u00e9"}"#;

fn asking(most: u32) -> ChatRequest {
    let mut request = seeded("1 + 2?", most);
    request.tools.tools = vec![Tool {
        name: "add".to_owned(),
        description: None,
        parameters: Some(r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#.to_owned()),
    }];
    request
}

/// The text and the end of an answer that the model writes so.
fn answer(home: &Home, script: &'static str, most: u32, resume: Vec<u32>) -> (String, ChatDone) {
    *home.engine.script.lock().unwrap() = Some(script);
    let out = Collected::default();
    let done = chat(&home.agreed(ALL), asking(most), resume, &out).unwrap();
    (out.text() + &done.text, done)
}

#[test]
fn a_call_is_told_and_not_its_text() {
    let (text, done) = answer(&home(), CALL, 500, vec![]);
    assert_eq!((text.as_str(), done.finish_reason), ("", FinishReason::ToolCalls));
    let [call] = done.tool_calls.as_slice() else {
        panic!("{:?}", done.tool_calls)
    };
    assert_eq!(call.function().name, "add");
    assert_eq!(call.function().arguments, r#"{"a": 1}"#);
    assert!(call.id().len() == 9 && call.id().chars().all(|c| c.is_ascii_alphanumeric()));
}

#[test]
fn of_a_call_that_is_cut_off_there_is_nothing() {
    let home = home();
    for most in 1..CALL.len() as u32 {
        let (text, done) = answer(&home, CALL, most, vec![]);
        assert_eq!((text.as_str(), done.finish_reason), ("", FinishReason::Length));
        assert_eq!(done.tool_calls, []);
        assert_eq!(done.receipt.completion_tokens, most);
    }
}

#[test]
fn resumed_after_any_token_text_and_calls_are_the_same() {
    let home = home();
    for script in [CALL, ANSWER] {
        let (whole, done) = answer(&home, script, 500, vec![]);
        for delivered in 0..=script.len() as u32 {
            // What a client had got when the node died: an answer that was cut off there, without its last words.
            let before = if delivered == 0 {
                String::new()
            } else {
                answer(&home, script, delivered, vec![]).0
            };
            let (rest, again) = answer(&home, script, 500, (0..delivered).collect());
            assert_eq!(before + &rest, whole, "{script} after {delivered}");
            let functions = |done: &ChatDone| -> Vec<_> {
                let calls = done.tool_calls.iter();
                calls.map(|call| call.function().clone()).collect()
            };
            assert_eq!(functions(&again), functions(&done));
        }
    }
}

#[test]
fn tools_that_cannot_be_called_are_refused_before_anything_is_fetched() {
    let home = home();
    let refused = |change: &dyn Fn(&mut ChatRequest)| {
        let mut request = asking(5);
        change(&mut request);
        let error = chat(&home.agreed(ALL), request, vec![], &Collected::default()).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{}", error.message);
        error.message
    };
    let message = refused(&|request| request.tools.tools[0].parameters = Some("{".to_owned()));
    assert!(message.contains("\"add\""), "{message}");
    let name = "sub".to_owned();
    let choice = ToolChoice::Function { name };
    let message = refused(&|request| request.tools.tool_choice = Some(choice.clone()));
    assert!(message.contains("\"sub\""), "{message}");
    refused(&|request| request.response_format = Some(ResponseFormat::JsonObject));
    assert_eq!(home.engine.loads.load(std::sync::atomic::Ordering::Relaxed), 0);
}
