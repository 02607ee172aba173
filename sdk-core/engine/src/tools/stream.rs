//! Separates text from calls as an answer comes.

use kwaainet_types::FunctionCall;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{MOST_CALLS, ToolFormat};

/// How the generic notation begins an answer, and a call.
const ANSWER: &str = "{\"response\": \"";
const CALL: &str = "{\"tool_call\":";

/// Reads the text of an answer that follows the grammar of a [`ToolFormat`].
///
/// What it gives out depends on the text alone and never on how it is cut into pieces. Text comes as soon as it can be no part
/// of a call; blanks in front of a call are left out. Calls come at the end, whole or not at all.
#[derive(Debug, Clone)]
pub struct ToolStream {
    format: ToolFormat,
    state: State,
    /// What is not given out yet: it may be the beginning of a call, or is one.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is decided.
    Begin,
    /// In text.
    Text,
    /// In the JSON string of a generic answer.
    Answer,
    /// In calls, to the end.
    Calls,
    /// Behind a generic answer.
    Over,
}

/// A call as it is written. Names and arguments are what the grammar allows.
#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: &'a RawValue,
}

impl ToolStream {
    /// At the beginning of an answer.
    pub fn new(format: ToolFormat) -> Self {
        let state = match format {
            ToolFormat::Hermes | ToolFormat::Mistral => State::Text,
            ToolFormat::Llama3 | ToolFormat::Generic => State::Begin,
        };
        Self {
            format,
            state,
            held: String::new(),
        }
    }

    /// Takes the next piece and gives out the text that is certain now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        if self.state == State::Begin {
            self.begin();
        }
        match self.state {
            State::Text => self.text(),
            State::Answer => self.answer(),
            State::Begin | State::Calls => String::new(),
            State::Over => {
                self.held.clear();
                String::new()
            }
        }
    }

    /// The text that was held back, and the calls. `is_whole` says that the answer was not cut off: what a cut leaves of a call,
    /// or of what may have become one, is nothing.
    pub fn finish(self, is_whole: bool) -> (String, Vec<FunctionCall>) {
        match self.state {
            _ if !is_whole => (String::new(), Vec::new()),
            State::Calls => (String::new(), self.calls()),
            State::Text => (self.held, Vec::new()),
            State::Begin | State::Answer | State::Over => (String::new(), Vec::new()),
        }
    }

    fn begin(&mut self) {
        self.state = match self.format {
            ToolFormat::Llama3 if self.held.is_empty() => State::Begin,
            ToolFormat::Llama3 if self.held.starts_with('{') => State::Calls,
            ToolFormat::Generic if self.held.starts_with(ANSWER) => {
                self.held.drain(..ANSWER.len());
                State::Answer
            }
            ToolFormat::Generic if ANSWER.starts_with(&self.held) => State::Begin,
            ToolFormat::Generic => State::Calls,
            _ => State::Text,
        };
    }

    fn text(&mut self) -> String {
        let Some(trigger) = self.format.trigger() else {
            return std::mem::take(&mut self.held);
        };
        if let Some((before, behind)) = self.held.split_once(trigger) {
            let before = before.trim_end().to_owned();
            self.held = behind.to_owned();
            self.state = State::Calls;
            return before;
        }
        let longest = self.held.len().min(trigger.len().saturating_sub(1));
        let begun = (1..=longest)
            .rev()
            .find(|len| {
                trigger
                    .get(..*len)
                    .is_some_and(|start| self.held.ends_with(start))
            })
            .unwrap_or(0);
        let text = self.held.get(..self.held.len().saturating_sub(begun));
        let certain = text.unwrap_or_default().trim_end().len();
        self.held.drain(..certain).collect()
    }

    /// What the JSON string in front says, as far as its escapes are complete.
    fn answer(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.held.chars();
        loop {
            let mut ahead = rest.clone();
            match ahead.next() {
                None => break,
                Some('"') => {
                    self.state = State::Over;
                    break;
                }
                Some('\\') => {
                    let Some(kind) = ahead.next() else { break };
                    let c = match kind {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'u' => {
                            let Some(digits) = ahead.as_str().get(..4) else {
                                break;
                            };
                            let code = u32::from_str_radix(digits, 16).ok();
                            ahead = ahead.as_str().get(4..).unwrap_or_default().chars();
                            code.and_then(char::from_u32).unwrap_or('\u{fffd}')
                        }
                        c => c,
                    };
                    text.push(c);
                }
                Some(c) => text.push(c),
            }
            rest = ahead;
        }
        self.held = rest.as_str().to_owned();
        text
    }

    /// The whole calls. Between them stand only brackets, commas, tags and blanks.
    fn calls(&self) -> Vec<FunctionCall> {
        let mut rest = self.held.as_str();
        if self.format == ToolFormat::Generic {
            rest = rest.strip_prefix(CALL).unwrap_or_default();
        }
        let mut calls = Vec::new();
        while calls.len() < MOST_CALLS
            && let Some((_, from)) = rest.find('{').and_then(|at| rest.split_at_checked(at))
        {
            let mut reader = serde_json::Deserializer::from_str(from).into_iter::<Written<'_>>();
            let Some(Ok(Written { name, arguments })) = reader.next() else {
                break;
            };
            calls.push(FunctionCall {
                name,
                arguments: arguments.get().to_owned(),
            });
            rest = from.get(reader.byte_offset()..).unwrap_or_default();
        }
        calls
    }
}
