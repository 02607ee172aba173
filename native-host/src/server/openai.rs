//! Requests and answers in OpenAI's shape: <https://platform.openai.com/docs/api-reference>.

use hyper::StatusCode;
use kwaainet_types::{
    ChatDelta, ChatDone, ChatRequest, FinishReason, ModelStatus, Receipt, ResponseFormat, ToolOptions,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::reply::ApiError;
use super::tools;
use crate::generator::{Job, Prompt};

/// OpenAI's default for the old endpoint.
const COMPLETION_TOKENS: u32 = 16;

/// Which of the two endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

/// A request that was understood.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) job: Job,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// Fields that would change the answer and that we cannot honour: refused rather than ignored.
const REFUSED: [(&str, &str); 9] = [
    ("functions", "functions are called tools now: send them as tools"),
    ("function_call", "function_call is called tool_choice now"),
    ("logprobs", "log probabilities are not supported in this version"),
    (
        "top_logprobs",
        "log probabilities are not supported in this version",
    ),
    ("logit_bias", "logit_bias is not supported in this version"),
    ("audio", "audio is not supported"),
    ("echo", "echo is not supported"),
    ("suffix", "suffix is not supported"),
    (
        "best_of",
        "best_of must be 1: one answer is generated per request",
    ),
];

/// Whether the field says nothing, or what happens anyway.
fn is_neutral(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_u64() == Some(u64::from(name == "best_of")),
        Value::Bool(true) => false,
    }
}

/// Reads the body of a request.
pub(crate) fn parse(kind: Kind, body: &[u8]) -> Result<Asked, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    let value: Value =
        serde_json::from_slice(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let Value::Object(mut fields) = value else {
        return Err(bad("the body is not a JSON object".to_owned()));
    };
    for (name, message) in REFUSED {
        if fields.get(name).is_some_and(|value| !is_neutral(name, value)) {
            return Err(ApiError::field(name, message));
        }
    }
    let tools = match kind {
        Kind::Chat => tools::parse(body)?,
        Kind::Text
            if fields
                .get("tools")
                .is_some_and(|tools| !is_neutral("tools", tools)) =>
        {
            return Err(ApiError::field(
                "tools",
                "tools are called in chats: use /v1/chat/completions",
            ));
        }
        Kind::Text => ToolOptions::default(),
    };
    for read_from_text in ["response_format", "tools", "tool_choice", "parallel_tool_calls"] {
        fields.remove(read_from_text);
    }
    let format = format(body)?;
    let include_usage = fields
        .get("stream_options")
        .and_then(|options| options.get("include_usage"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let raw = match kind {
        Kind::Chat => None,
        Kind::Text => {
            let prompt = take_prompt(&mut fields)?;
            // The rest of the request has the same fields as a chat; its check wants a message.
            fields.insert(
                "messages".to_owned(),
                json!([{ "role": "user", "content": prompt }]),
            );
            fields
                .entry("max_tokens")
                .or_insert_with(|| json!(COMPLETION_TOKENS));
            Some(prompt)
        }
    };
    if !fields.contains_key("messages") {
        return Err(ApiError::field("messages", "messages is missing"));
    }
    // Null means absent, for every field.
    fields.retain(|_, value| !value.is_null());
    // Both names of the same bound: the newer one wins, as OpenAI documents.
    if fields.contains_key("max_completion_tokens") {
        fields.remove("max_tokens");
    }
    let mut request: ChatRequest =
        serde_json::from_value(Value::Object(fields)).map_err(|error| explain(&error.to_string()))?;
    request.tools = tools;
    request.response_format = format;
    request.check()?;
    Ok(Asked {
        stream: request.stream.unwrap_or(false),
        include_usage,
        job: Job {
            stops: request.stops(),
            model: request.model.filter(|model| !model.is_empty()),
            prompt: raw.map_or(Prompt::Chat(request.messages), Prompt::Raw),
            sampling: request.sampling,
            max_tokens: request.max_tokens,
            format: request.response_format,
            tools: request.tools,
        },
    })
}

/// The field of a request that is not read as a value.
#[derive(Deserialize)]
struct WithFormat {
    response_format: Option<Format>,
}

/// OpenAI's `response_format`, and llama.cpp's grammars.
#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<NamedSchema>,
    grammar: Option<String>,
}

#[derive(Deserialize)]
struct NamedSchema {
    schema: Box<RawValue>,
}

/// What the answer must look like. From the text: a value would have lost the order of the schema's members.
fn format(body: &[u8]) -> Result<Option<ResponseFormat>, ApiError> {
    let wrong = |message: String| Err(ApiError::field("response_format", message));
    let format = match serde_json::from_slice::<WithFormat>(body) {
        Ok(WithFormat {
            response_format: None,
        }) => return Ok(None),
        Ok(WithFormat {
            response_format: Some(format),
        }) => format,
        Err(error) => return wrong(format!("response_format: {error}")),
    };
    Ok(Some(
        match (format.kind.as_str(), format.json_schema, format.grammar) {
            ("text", ..) => ResponseFormat::Text,
            ("json_object", ..) => ResponseFormat::JsonObject,
            ("json_schema", Some(named), _) => ResponseFormat::JsonSchema {
                schema: named.schema.get().to_owned(),
            },
            ("json_schema", None, _) => return wrong("json_schema with its schema is missing".to_owned()),
            ("grammar", _, Some(grammar)) => ResponseFormat::Grammar { grammar },
            ("grammar", _, None) => return wrong("grammar is missing".to_owned()),
            (other, ..) => {
                return wrong(format!(
                    "there is no type {other:?}: use text, json_object, json_schema or grammar"
                ));
            }
        },
    ))
}

fn explain(reason: &str) -> ApiError {
    // serde cannot say more about an untagged enum.
    if reason.contains("untagged enum Content") {
        return ApiError::field(
            "messages",
            "content must be a string, a list of parts of type \"text\", or null beside tool_calls",
        );
    }
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", reason)
}

fn take_prompt(fields: &mut Map<String, Value>) -> Result<String, ApiError> {
    let bad = |message| Err(ApiError::field("prompt", message));
    match fields.remove("prompt") {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(mut prompts)) => match (prompts.len(), prompts.pop()) {
            (1, Some(Value::String(text))) => Ok(text),
            _ => bad("send one prompt, as a string"),
        },
        None | Some(Value::Null) => bad("prompt is missing"),
        Some(_) => bad("prompt must be a string"),
    }
}

fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Stop | FinishReason::Cancelled => "stop",
    }
}

fn usage(receipt: &Receipt) -> Value {
    json!({
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "total_tokens": receipt.prompt_tokens.saturating_add(receipt.completion_tokens),
        "prompt_tokens_details": { "cached_tokens": receipt.reused_tokens },
    })
}

/// What all pieces of one answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) include_usage: bool,
}

impl Shape {
    /// The answer in one document.
    pub(crate) fn whole(&self, text: &str, done: &ChatDone) -> Value {
        let finish_reason = finish(done.finish_reason);
        let calls = done.tool_calls.as_slice();
        // OpenAI writes no content beside calls, and no list of calls that is empty.
        let content = (calls.is_empty() || !text.is_empty()).then_some(text);
        let mut message = Map::from_iter([
            ("role".to_owned(), json!("assistant")),
            ("content".to_owned(), json!(content)),
            ("refusal".to_owned(), Value::Null),
        ]);
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(calls));
        }
        let (object, choice) = match self.kind {
            Kind::Chat => (
                "chat.completion",
                json!({ "index": 0, "message": message, "finish_reason": finish_reason, "logprobs": null }),
            ),
            Kind::Text => (
                "text_completion",
                json!({ "index": 0, "text": text, "finish_reason": finish_reason, "logprobs": null }),
            ),
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": done.receipt.model,
            "choices": [choice], "usage": usage(&done.receipt),
        })
    }

    fn piece(&self, choices: Value, usage: Value) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        let mut piece = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if self.include_usage
            && let Some(fields) = piece.as_object_mut()
        {
            fields.insert("usage".to_owned(), usage);
        }
        piece
    }

    /// The first event of a chat: who speaks. Text completions have none.
    pub(crate) fn first(&self) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        (self.kind == Kind::Chat).then(|| self.change(&delta))
    }

    /// A piece of text; nothing while the text lags behind the tokens.
    pub(crate) fn delta(&self, delta: &ChatDelta) -> Option<Value> {
        (!delta.text.is_empty()).then(|| self.text(&delta.text))
    }

    fn text(&self, text: &str) -> Value {
        match self.kind {
            Kind::Chat => self.change(&json!({ "content": text })),
            Kind::Text => {
                let choice = json!([{ "index": 0, "text": text, "finish_reason": null }]);
                self.piece(choice, Value::Null)
            }
        }
    }

    fn change(&self, delta: &Value) -> Value {
        let choice = json!([{ "index": 0, "delta": delta, "finish_reason": null }]);
        self.piece(choice, Value::Null)
    }

    /// The events at the end.
    pub(crate) fn last(&self, done: &ChatDone) -> Vec<Value> {
        let mut events = Vec::new();
        if !done.text.is_empty() {
            events.push(self.text(&done.text));
        }
        let calls = tools::deltas(&done.tool_calls);
        events.extend(calls.iter().map(|delta| self.change(delta)));
        let reason = finish(done.finish_reason);
        let choice = match self.kind {
            Kind::Chat => json!([{ "index": 0, "delta": {}, "finish_reason": reason }]),
            Kind::Text => json!([{ "index": 0, "text": "", "finish_reason": reason }]),
        };
        events.push(self.piece(choice, Value::Null));
        if self.include_usage {
            events.push(self.piece(json!([]), usage(&done.receipt)));
        }
        events
    }
}

/// An entry of `/v1/models`.
pub(crate) fn model(status: &ModelStatus, created: u64) -> Value {
    json!({
        "id": status.id, "object": "model", "created": created, "owned_by": "kwaainet",
        "name": status.name, "licence": status.licence, "quantisation": status.quantisation,
        "context_length": status.context_length, "bytes": status.bytes,
        "stored_bytes": status.stored_bytes, "loaded": status.loaded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        let body = br#"{"model":"m","messages":[{"role":"developer","content":"Be brief"},
            {"role":"user","content":[{"type":"text","text":"Hi"}]}],"max_tokens":9,"max_completion_tokens":5,
            "temperature":null,"stop":null,"tools":[],"n":1,"stream":true,"stream_options":{"include_usage":true},
            "user":"u","response_format":{"type":"text"},"logprobs":false}"#;
        let asked = parse(Kind::Chat, body).unwrap();
        assert!(asked.stream && asked.include_usage);
        assert_eq!(asked.job.max_tokens, Some(5));
        assert!(matches!(asked.job.prompt, Prompt::Chat(messages) if messages.len() == 2));
        let asked = parse(Kind::Text, br#"{"prompt":["The sky"]}"#).unwrap();
        assert_eq!(asked.job.prompt, Prompt::Raw("The sky".to_owned()));
        assert_eq!(asked.job.max_tokens, Some(16));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let param = |body: &str| parse(Kind::Chat, body.as_bytes()).unwrap_err().param;
        let with = |field: &str| format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{field}}}"#);
        assert_eq!(param(&with(r#""tools":[{"type":"function"}]"#)), Some("tools"));
        assert_eq!(param(&with(r#""functions":[{"name":"f"}]"#)), Some("functions"));
        assert_eq!(param(&with(r#""logprobs":true"#)), Some("logprobs"));
        assert_eq!(
            param(&with(r#""response_format":{"type":"xml"}"#)),
            Some("response_format")
        );
        assert_eq!(
            param(&with(r#""response_format":{"type":"json_schema"}"#)),
            Some("response_format")
        );
        assert_eq!(param("{}"), Some("messages"));
        assert_eq!(
            param(r#"{"messages":[{"role":"user","content":5}]}"#),
            Some("messages")
        );
        for bad in [
            "",
            "[]",
            "{",
            r#"{"messages":[]}"#,
            &with(r#""n":2"#),
            &with(r#""seed":-1"#),
        ] {
            assert_eq!(
                parse(Kind::Chat, bad.as_bytes()).unwrap_err().status,
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
    }
}
