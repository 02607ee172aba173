//! What a chat template is given of tools and calls.

use std::collections::HashMap;

use kwaainet_types::{ChatMessage, FunctionCall, Role, Tool, ToolCall, ToolOptions};
use minijinja::Value;

use super::{DEEPEST, ToolFormat, parameters};
use crate::grammar::{Json, quote};

/// Bytes of the keys and fixed words around a call or a tool; what a template may keep is measured with them.
const KEYS: usize = 128;

/// A conversation as a template's variables.
pub(crate) struct Shown {
    pub(crate) messages: Vec<Value>,
    /// Nothing where the template writes no tools.
    pub(crate) tools: Option<Value>,
    /// Bytes of all texts.
    pub(crate) bytes: usize,
}

/// Puts a conversation into the terms of a template. One that knows no tools is given plain messages that tell of them.
pub(crate) fn show(format: ToolFormat, messages: &[ChatMessage], options: &ToolOptions) -> Shown {
    let tools = options.shown();
    if format == ToolFormat::Generic {
        let plain = plain(messages, options);
        let bytes = plain.iter().map(|(_, text)| text.len()).sum();
        let message = |(role, text): (Role, String)| {
            Value::from_pairs([("role", Value::from(name(role))), ("content", Value::from(text))])
        };
        return Shown {
            messages: plain.into_iter().map(message).collect(),
            tools: None,
            bytes,
        };
    }
    let calls = Calls::new(format, messages);
    let of_tool = |tool: &Tool| {
        let description = tool.description.as_ref().map_or(0, String::len);
        KEYS + tool.name.len() + description + parameters(tool).len()
    };
    let of_call = |call: &ToolCall| {
        let FunctionCall { name, arguments } = call.function();
        KEYS + call.id().len() + name.len() + arguments.len()
    };
    let of_message =
        |message: &ChatMessage| message.text().len() + message.calls().iter().map(of_call).sum::<usize>();
    Shown {
        messages: messages.iter().map(|message| calls.message(message)).collect(),
        tools: (!tools.is_empty()).then(|| tools.iter().map(tool).collect()),
        bytes: messages.iter().map(of_message).sum::<usize>() + tools.iter().map(of_tool).sum::<usize>(),
    }
}

const fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// As transformers gives it to templates.
fn tool(tool: &Tool) -> Value {
    let mut function = vec![("name", Value::from(tool.name.as_str()))];
    if let Some(description) = &tool.description {
        function.push(("description", Value::from(description.as_str())));
    }
    function.push(("parameters", object(parameters(tool))));
    Value::from_pairs([
        ("type", Value::from("function")),
        ("function", Value::from_pairs(function)),
    ])
}

/// The calls of a conversation, by their ids.
struct Calls<'m> {
    format: ToolFormat,
    by_id: HashMap<&'m str, (usize, &'m FunctionCall)>,
}

impl<'m> Calls<'m> {
    fn new(format: ToolFormat, messages: &'m [ChatMessage]) -> Self {
        let calls = messages.iter().flat_map(ChatMessage::calls).enumerate();
        let by_id = calls.map(|(number, call)| (call.id(), (number, call.function())));
        Self {
            format,
            by_id: by_id.collect(),
        }
    }

    fn message(&self, message: &ChatMessage) -> Value {
        let mut pairs = vec![
            ("role", Value::from(name(message.role))),
            ("content", Value::from(message.text())),
        ];
        // Templates ask whether it is there, so it is not there when it is empty.
        if !message.calls().is_empty() {
            let calls = message.calls().iter().map(|call| self.call(call));
            pairs.push(("tool_calls", calls.collect()));
        }
        if let Some(id) = &message.tool_call_id {
            if let Some((_, function)) = self.by_id.get(id.as_str()) {
                pairs.push(("name", Value::from(function.name.as_str())));
            }
            pairs.push(("tool_call_id", Value::from(self.id(id))));
        }
        Value::from_pairs(pairs)
    }

    fn call(&self, call: &ToolCall) -> Value {
        let FunctionCall { name, arguments } = call.function();
        let function = [
            ("name", Value::from(name.as_str())),
            ("arguments", object(arguments)),
        ];
        Value::from_pairs([
            ("id", Value::from(self.id(call.id()))),
            ("type", Value::from("function")),
            ("function", Value::from_pairs(function)),
        ])
    }

    /// Mistral's templates refuse every id that does not have 9 letters and digits.
    fn id(&self, id: &str) -> String {
        let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match self.by_id.get(id) {
            Some((number, _)) if self.format == ToolFormat::Mistral && !fits => format!("{number:09}"),
            _ => id.to_owned(),
        }
    }
}

/// JSON as an object, which is what templates expect of arguments. What is no object stays text.
fn object(text: &str) -> Value {
    match serde_json::from_str::<Json>(text) {
        Ok(json) if !json.is_deeper_than(DEEPEST) => value(&json),
        _ if text.trim().is_empty() => Value::from_pairs(Vec::<(&str, Value)>::new()),
        _ => Value::from(text),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(is) => Value::from(*is),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (None, Some(number), _) => Value::from(number),
            (None, None, number) => Value::from(number),
        },
        Json::Text(text) => Value::from(text.as_str()),
        Json::List(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, field)| (name.as_str(), value(field))))
        }
    }
}

/// The conversation without tools, calls and results: text tells of them, in the notation that the grammar demands.
fn plain(messages: &[ChatMessage], options: &ToolOptions) -> Vec<(Role, String)> {
    let calls = Calls::new(ToolFormat::Generic, messages);
    let mut plain: Vec<(Role, String)> = Vec::with_capacity(messages.len() + 1);
    let mut behind_result = false;
    for message in messages {
        let mut text = message.text();
        let mut add = |line: String| {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        };
        for call in message.calls() {
            let FunctionCall { name, arguments } = call.function();
            let arguments = if arguments.trim().is_empty() {
                "{}"
            } else {
                arguments
            };
            add(format!(
                r#"{{"tool_call": {{"name": {}, "arguments": {arguments}}}}}"#,
                quote(name)
            ));
        }
        if message.role != Role::Tool {
            plain.push((message.role, text));
            behind_result = false;
            continue;
        }
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        let name = calls
            .by_id
            .get(id)
            .map_or("", |(_, function)| function.name.as_str());
        let result = format!(
            r#"{{"tool_response": {{"name": {}, "content": {}}}}}"#,
            quote(name),
            quote(&text)
        );
        // Many templates demand that user and assistant take turns: results of one answer are one message.
        match plain.last_mut() {
            Some((_, before)) if behind_result => {
                before.push('\n');
                before.push_str(&result);
            }
            _ => plain.push((Role::User, result)),
        }
        behind_result = true;
    }
    if !options.shown().is_empty() {
        let explained = explain(options);
        match plain.first_mut() {
            Some((Role::System, system)) => {
                system.push_str("\n\n");
                system.push_str(&explained);
            }
            _ => plain.insert(0, (Role::System, explained)),
        }
    }
    plain
}

/// After the generic way of llama.cpp.
fn explain(options: &ToolOptions) -> String {
    let mut text = String::from("You can call these tools to do what the user asks for:\n\n");
    for tool in options.shown() {
        let description = tool.description.as_deref().map_or(String::new(), |description| {
            format!(r#""description": {}, "#, quote(description))
        });
        text.push_str(&format!(
            "{{\"name\": {}, {description}\"parameters\": {}}}\n",
            quote(&tool.name),
            parameters(tool)
        ));
    }
    text.push_str(
        "\nRespond in JSON. To call a tool: {\"tool_call\": {\"name\": \"...\", \"arguments\": {...}}}",
    );
    if !options.must_call() {
        text.push_str("\nTo answer the user: {\"response\": \"...\"}");
    }
    text
}
