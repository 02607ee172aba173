//! Requests in the shape of OpenAI's chat completions, and what a node answers.

use serde::{Deserialize, Serialize};

use crate::tools::check_calls;
use crate::{ErrorBody, ErrorCode, ToolCall, ToolOptions};

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Role {
    /// Instructions of the site or application.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a call that the model asked for.
    Tool,
}

/// A message's content: a string, or text parts that are joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, of which only text is understood.
    Parts(Vec<ContentPart>),
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum ContentPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
}

impl Content {
    /// The text, parts joined.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts
                .iter()
                .map(|ContentPart::Text { text }| text.as_str())
                .collect(),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ChatMessage {
    /// Who said it.
    pub role: Role,
    /// What was said. The assistant may have called tools and said nothing.
    #[serde(default)]
    #[cfg_attr(feature = "ts", tsify(type = "Content | null"))]
    pub content: Option<Content>,
    /// What the assistant asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// The call that this is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A message of text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            tool_calls: None,
            tool_call_id: None,
        }
    }

    /// What was said, parts joined.
    pub fn text(&self) -> String {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }

    /// What the assistant asked for.
    pub fn calls(&self) -> &[ToolCall] {
        self.tool_calls.as_deref().unwrap_or_default()
    }

    /// Bytes of all its text.
    fn bytes(&self) -> usize {
        let calls = self.calls().iter();
        let calls: usize = calls.map(|call| call.function().arguments.len()).sum();
        self.text().len() + calls
    }
}

/// One stop string or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Stop {
    /// One.
    One(String),
    /// Up to [`MOST_STOPS`].
    Many(Vec<String>),
}

/// The most stop strings of one request.
pub const MOST_STOPS: usize = 16;
/// The most messages of one request.
pub const MOST_MESSAGES: usize = 4096;
/// The most characters (bytes of UTF-8) of one request, all messages together.
pub const MOST_PROMPT_BYTES: usize = 8 << 20;

/// How to choose tokens. Absent values take the engine's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct SamplingOptions {
    /// 0 is greedy; up to 5.
    pub temperature: Option<f32>,
    /// Keep the k likeliest tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the likeliest tokens that together have this probability.
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest.
    pub min_p: Option<f32>,
    /// Divides the logits of recent tokens; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Subtracted once from tokens already present.
    pub presence_penalty: Option<f32>,
    /// Subtracted per occurrence.
    pub frequency_penalty: Option<f32>,
    /// The same seed and request give the same text. Below 2^53, so that JavaScript can hold it.
    #[serde(deserialize_with = "whole_number")]
    pub seed: Option<u64>,
}

impl SamplingOptions {
    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] naming the field and its range.
    pub fn check(&self) -> Result<(), ErrorBody> {
        let ranges = [
            ("temperature", self.temperature, 0.0..=5.0),
            ("top_p", self.top_p, 0.0..=1.0),
            ("min_p", self.min_p, 0.0..=1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01..=10.0),
            ("presence_penalty", self.presence_penalty, -2.0..=2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0..=2.0),
        ];
        for (name, value, range) in ranges {
            // A NaN is in no range.
            if value.is_some_and(|value| !range.contains(&value)) {
                let (from, to) = range.into_inner();
                return Err(ErrorBody::new(
                    ErrorCode::BadRequest,
                    format!("{name} must be a number from {from} to {to}"),
                ));
            }
        }
        Ok(())
    }
}

// JavaScript hands every number over as a double.
fn whole_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if number.fract() != 0.0 || !(0.0..9_007_199_254_740_992.0).contains(&number) {
        return Err(serde::de::Error::custom(
            "seed must be a whole number from 0 to 2^53 - 1",
        ));
    }
    Ok(Some(number as u64))
}

/// What an answer must look like. OpenAI's `json_schema` with the schema as text, because the order of an object's members
/// counts, and objects on their way between languages lose it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum ResponseFormat {
    /// Whatever the model writes.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that is valid under a schema.
    JsonSchema {
        /// The schema, as JSON.
        schema: String,
    },
    /// Text that follows rules in GBNF, llama.cpp's notation.
    Grammar {
        /// The rules; the first one is `root`.
        grammar: String,
    },
}

/// A chat completion as OpenAI's clients ask for it. Fields that we do not know are ignored, as there;
/// known ones that we cannot honour are refused by [`ChatRequest::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ChatRequest {
    /// Model id; the configured model when absent or empty.
    #[serde(default)]
    pub model: Option<String>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Sampling.
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    /// Most tokens to generate.
    #[serde(default, alias = "max_completion_tokens")]
    pub max_tokens: Option<u32>,
    /// Strings that end the answer.
    #[serde(default)]
    pub stop: Option<Stop>,
    /// Number of answers; only 1.
    #[serde(default)]
    pub n: Option<u32>,
    /// Whether pieces are wanted as they come; decided by the caller of the node.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Most tokens that are guessed from the text so far and evaluated with the next one. The answer is the same, only
    /// sooner where it repeats something. 0 guesses none: for measuring how fast a device is.
    #[serde(default)]
    pub guesses: Option<u32>,
    /// What the answer must look like. It may still break off at `max_tokens`.
    #[serde(default)]
    pub response_format: Option<ResponseFormat>,
    /// What the model may ask the application to do.
    #[serde(flatten)]
    pub tools: ToolOptions,
}

impl ChatRequest {
    /// A request with nothing but messages.
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self {
            model: None,
            messages,
            sampling: SamplingOptions::default(),
            max_tokens: None,
            stop: None,
            n: None,
            stream: None,
            guesses: None,
            response_format: None,
            tools: ToolOptions::default(),
        }
    }

    /// The stop strings.
    pub fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }

    /// Checks bounds that do not depend on the model.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] naming the field and its range.
    pub fn check(&self) -> Result<(), ErrorBody> {
        let bad = |message: String| Err(ErrorBody::new(ErrorCode::BadRequest, message));
        self.sampling.check()?;
        if self.messages.is_empty() {
            return bad("messages is empty: send at least one message".to_owned());
        }
        if self.messages.len() > MOST_MESSAGES {
            return bad(format!(
                "{} messages are too many: send at most {MOST_MESSAGES}",
                self.messages.len()
            ));
        }
        let bytes: usize = self.messages.iter().map(ChatMessage::bytes).sum();
        let bytes = bytes.saturating_add(self.tools.bytes());
        if bytes > MOST_PROMPT_BYTES {
            return bad(format!(
                "messages and tools have {bytes} bytes: send at most {MOST_PROMPT_BYTES}"
            ));
        }
        check_calls(&self.messages)?;
        self.tools.check()?;
        let is_formed = self
            .response_format
            .as_ref()
            .is_some_and(|format| *format != ResponseFormat::Text);
        if is_formed && !self.tools.shown().is_empty() {
            return bad(
                "response_format cannot be combined with tools that may be called: leave one out, or set tool_choice \
                 to \"none\""
                    .to_owned(),
            );
        }
        if self.n.is_some_and(|n| n != 1) {
            return bad("n must be 1: one answer is generated per request".to_owned());
        }
        if self.max_tokens == Some(0) {
            return bad("max_tokens must be at least 1".to_owned());
        }
        let stops = self.stops();
        if stops.len() > MOST_STOPS || stops.iter().any(|stop| stop.is_empty() || stop.len() > 256) {
            return bad(format!("stop takes up to {MOST_STOPS} strings of 1 to 256 bytes"));
        }
        Ok(())
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The caller cancelled.
    Cancelled,
    /// The model asks for calls and waits for their results.
    ToolCalls,
}

/// A piece of an answer. `tokens` are what a resumed request must send back; text may lag behind them
/// while a character is incomplete or a stop string is possible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ChatDelta {
    /// New text.
    pub text: String,
    /// Ids of the tokens generated since the last piece.
    pub tokens: Vec<u32>,
}

/// Where the work was done and who could read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum PrivacyMode {
    /// On this device; nothing left it.
    Device,
}

/// What an answer took, told to the person who asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Receipt {
    /// Model id.
    pub model: String,
    /// Who could read the conversation.
    pub privacy: PrivacyMode,
    /// What computed it, e.g. `wasm simd128, 2 threads`.
    pub backend: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, taken over from the turn before.
    pub reused_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Milliseconds until the first token, model loading not included.
    pub prefill_ms: f64,
    /// Milliseconds from the first to the last token.
    pub decode_ms: f64,
    /// Bytes of request bodies sent over the network for this answer.
    pub bytes_sent: u32,
    /// The seed, so that the answer can be had again.
    pub seed: u64,
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ChatDone {
    /// The last piece of text, held back until now.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The calls that the model asks for. None of an answer that was cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What it took.
    pub receipt: Receipt,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &str) -> ChatRequest {
        serde_json::from_str(&format!(
            r#"{{"messages":[{{"role":"user","content":"hi"}}]{fields}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (fields, name) in [
            (r#","temperature":1e39"#, "temperature"),
            (r#","top_p":1.5"#, "top_p"),
            (r#","frequency_penalty":-3"#, "frequency_penalty"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","n":2"#, "n must be 1"),
            (r#","stop":["a",""]"#, "stop"),
        ] {
            let error = request(fields).check().unwrap_err();
            assert!(error.message.contains(name), "{fields}: {}", error.message);
        }
        let not_a_number = SamplingOptions {
            temperature: Some(f32::NAN),
            ..SamplingOptions::default()
        };
        assert!(not_a_number.check().is_err());
    }

    #[test]
    fn what_openai_clients_send_is_understood() {
        let request = request(
            r#","stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":5,"seed":7,"stop":"x""#,
        );
        request.check().unwrap();
        assert_eq!((request.max_tokens, request.sampling.seed), (Some(5), Some(7)));
        assert_eq!(request.stops(), ["x"]);
        let parts: Content =
            serde_json::from_str(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#).unwrap();
        assert_eq!(parts.text(), "ab");
        assert!(serde_json::from_str::<SamplingOptions>(r#"{"seed":1.5}"#).is_err());
    }
}
