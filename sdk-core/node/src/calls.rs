//! Calls of tools in an answer: what keeps the model to them, and what becomes of them.

use kwaainet_engine::{EngineError, Grammar, ToolStream};
use kwaainet_platform::Random;
use kwaainet_types::{FinishReason, FunctionCall, ToolCall, ToolOptions};

use crate::engine::RunnableModel;

/// What tools change in the making of an answer.
#[derive(Default)]
pub(crate) struct Calling {
    /// What the answer must follow.
    pub(crate) grammar: Option<Grammar>,
    /// Control tokens that count as text.
    pub(crate) marks: Vec<String>,
    /// Keeps calls out of the text.
    pub(crate) stream: Option<ToolStream>,
}

impl Calling {
    /// Nothing, when there is nothing to call.
    pub(crate) fn new(tools: &ToolOptions, model: &dyn RunnableModel) -> Result<Self, EngineError> {
        if tools.shown().is_empty() {
            return Ok(Self::default());
        }
        let format = model.tool_format()?;
        Ok(Self {
            grammar: format.grammar(tools)?,
            marks: format.marks().iter().map(|mark| (*mark).to_owned()).collect(),
            stream: Some(ToolStream::new(format)),
        })
    }
}

/// How an answer ended.
pub(crate) struct Ending {
    pub(crate) reason: FinishReason,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
}

impl Ending {
    /// From the engine's reason and the last piece of its text.
    pub(crate) fn new(
        stream: Option<ToolStream>,
        reason: FinishReason,
        tail: String,
        random: &dyn Random,
    ) -> Self {
        let Some(mut stream) = stream else {
            return Self {
                reason,
                text: tail,
                calls: Vec::new(),
            };
        };
        let mut text = stream.push(&tail);
        let (rest, calls) = stream.finish(reason == FinishReason::Stop);
        text.push_str(&rest);
        let named = |function: FunctionCall| ToolCall::Function {
            id: id(random),
            function,
        };
        let calls: Vec<_> = calls.into_iter().map(named).collect();
        let reason = if calls.is_empty() {
            reason
        } else {
            FinishReason::ToolCalls
        };
        Self { reason, text, calls }
    }
}

/// Nine letters and digits: OpenAI's clients take any text, Mistral's templates nothing else.
fn id(random: &dyn Random) -> String {
    let mut number = random.next_u64();
    let letter = |_| {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        number /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    (0..9).map(letter).collect()
}
