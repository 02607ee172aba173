//! Tools: what the model may ask the application to do, in OpenAI's terms.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{ChatMessage, ErrorBody, ErrorCode, Role};

/// The most tools of one request (OpenAI's bound).
pub const MOST_TOOLS: usize = 128;
/// The longest name of a tool (OpenAI's bound).
const LONGEST_NAME: usize = 64;

/// A function that the application offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Tool {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// What it does and when to call it, for the model.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON schema of its arguments, as text: the order of an object's members counts, and objects on their way between
    /// languages lose it. Absent for a function without arguments.
    #[serde(default)]
    pub parameters: Option<String>,
}

/// Whether the model calls tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// Never; the tools are not shown to it.
    None,
    /// It must call one at least.
    Required,
    /// It must call this one.
    Function {
        /// The tool's name.
        name: String,
    },
}

/// A call that the model asks for, or asked for earlier in the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum ToolCall {
    /// Of a function.
    Function {
        /// What the message with the result names.
        id: String,
        /// Which function, and with what.
        function: FunctionCall,
    },
}

impl ToolCall {
    /// What the message with the result names.
    pub fn id(&self) -> &str {
        let Self::Function { id, .. } = self;
        id
    }

    /// Which function, and with what.
    pub fn function(&self) -> &FunctionCall {
        let Self::Function { function, .. } = self;
        function
    }
}

/// A function's name and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct FunctionCall {
    /// Which function.
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// Tools of a request, and how they may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ToolOptions {
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it calls; as it likes when absent.
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may make several calls. Not by default: small models do not know when to stop.
    pub parallel_tool_calls: Option<bool>,
}

impl ToolOptions {
    /// The tools that the model is shown.
    pub fn shown(&self) -> &[Tool] {
        match self.tool_choice {
            Some(ToolChoice::None) => &[],
            _ => &self.tools,
        }
    }

    /// The tools that it may call.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        let only = match &self.tool_choice {
            Some(ToolChoice::Function { name }) => Some(name),
            _ => None,
        };
        let tools = self.shown().iter();
        tools.filter(move |tool| only.is_none_or(|only| *only == tool.name))
    }

    /// Whether the answer must be a call.
    pub fn must_call(&self) -> bool {
        matches!(
            self.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Function { .. })
        )
    }

    /// Bytes of what is shown to the model.
    pub(crate) fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let tools = self.tools.iter();
        tools
            .map(|tool| tool.name.len() + of(&tool.description) + of(&tool.parameters))
            .sum()
    }

    /// Checks names and choice. The engine judges the schemas.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] naming the tool and what to do.
    pub fn check(&self) -> Result<(), ErrorBody> {
        if self.tools.len() > MOST_TOOLS {
            return bad(format!(
                "tools: {} are too many, send at most {MOST_TOOLS}",
                self.tools.len()
            ));
        }
        let mut names = HashSet::new();
        for Tool { name, .. } in &self.tools {
            check_name(name)?;
            if !names.insert(name.as_str()) {
                return bad(format!("tools: two have the name {name:?}, rename one"));
            }
        }
        match &self.tool_choice {
            Some(ToolChoice::Function { name }) if !names.contains(name.as_str()) => bad(format!(
                "tool_choice: there is no tool {name:?}, add it to tools or choose one of them"
            )),
            Some(ToolChoice::Required) if names.is_empty() => {
                bad("tool_choice: a call is required and tools is empty, send at least one tool".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Checks that calls are made by the assistant, and that each result belongs to a call.
pub(crate) fn check_calls(messages: &[ChatMessage]) -> Result<(), ErrorBody> {
    let mut called = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        if message.role != Role::Assistant && !message.calls().is_empty() {
            return bad(format!("{at}: only the assistant's messages have tool_calls"));
        }
        for call in message.calls() {
            check_name(&call.function().name)?;
            called.insert(call.id());
        }
        if message.content.is_none() && message.calls().is_empty() {
            return bad(format!("{at}: content is missing"));
        }
        match (message.role, &message.tool_call_id) {
            (Role::Tool, Some(id)) if !called.contains(id.as_str()) => {
                return bad(format!(
                    "{at}: no message before it has a call with the id {id:?}, send the assistant's message \
                     with its tool_calls first"
                ));
            }
            (Role::Tool, None) => {
                return bad(format!(
                    "{at}: a result needs the tool_call_id of the call that it belongs to"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ErrorBody> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let start: String = name.chars().take(LONGEST_NAME).collect();
    bad(format!(
        "tools: {start:?} is no name of a tool, use 1 to {LONGEST_NAME} letters, digits, '_' and '-'"
    ))
}

fn bad<T>(message: String) -> Result<T, ErrorBody> {
    Err(ErrorBody::new(ErrorCode::BadRequest, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChatRequest;

    fn check(fields: &str) -> Result<(), String> {
        let request = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
        let request: ChatRequest = serde_json::from_str(&request).unwrap();
        request.check().map_err(|error| error.message)
    }

    fn conversation(messages: &str) -> Result<(), String> {
        let request: ChatRequest = serde_json::from_str(&format!(r#"{{"messages":[{messages}]}}"#)).unwrap();
        request.check().map_err(|error| error.message)
    }

    #[test]
    fn tools_that_cannot_be_offered_are_refused_by_name() {
        assert_eq!(check(r#""tools":[{"name":"get_weather-2"}]"#), Ok(()));
        let many: Vec<String> = (0..129).map(|n| format!(r#"{{"name":"f{n}"}}"#)).collect();
        let long = "x".repeat(65);
        for (fields, problem) in [
            (r#""tools":[{"name":"get weather"}]"#.to_owned(), "get weather"),
            (r#""tools":[{"name":""}]"#.to_owned(), "no name"),
            (format!(r#""tools":[{{"name":"{long}"}}]"#), "no name"),
            (
                r#""tools":[{"name":"f"},{"name":"f"}]"#.to_owned(),
                "two have the name \"f\"",
            ),
            (format!(r#""tools":[{}]"#, many.join(",")), "129"),
            (r#""tool_choice":{"type":"required"}"#.to_owned(), "required"),
            (
                r#""tools":[{"name":"f"}],"tool_choice":{"type":"function","name":"g"}"#.to_owned(),
                "no tool \"g\"",
            ),
            (
                r#""tools":[{"name":"f"}],"response_format":{"type":"json_object"}"#.to_owned(),
                "response_format",
            ),
        ] {
            let message = check(&fields).unwrap_err();
            assert!(message.contains(problem), "{fields}: {message}");
        }
    }

    #[test]
    fn what_is_shown_and_what_may_be_called() {
        let tools = |choice: &str| -> ToolOptions {
            let fields = format!(r#"{{"tools":[{{"name":"f"}},{{"name":"g"}}]{choice}}}"#);
            serde_json::from_str(&fields).unwrap()
        };
        let counts = |options: ToolOptions| {
            (
                options.shown().len(),
                options.callable().count(),
                options.must_call(),
            )
        };
        assert_eq!(counts(tools("")), (2, 2, false));
        assert_eq!(counts(tools(r#","tool_choice":{"type":"none"}"#)), (0, 0, false));
        assert_eq!(
            counts(tools(r#","tool_choice":{"type":"required"}"#)),
            (2, 2, true)
        );
        let named = tools(r#","tool_choice":{"type":"function","name":"g"}"#);
        assert_eq!(counts(named), (2, 1, true));
    }

    #[test]
    fn a_result_belongs_to_a_call() {
        let call = r#"{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":
            [{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
        let result = |id: &str| format!(r#"{call},{{"role":"tool","content":"1"{id}}}"#);
        assert_eq!(conversation(&result(r#","tool_call_id":"a""#)), Ok(()));
        for (messages, problem) in [
            (result(r#","tool_call_id":"b""#), "id \"b\""),
            (result(""), "tool_call_id"),
            (
                r#"{"role":"user","content":null}"#.to_owned(),
                "content is missing",
            ),
            (call.replace("assistant", "user"), "only the assistant's messages"),
        ] {
            let message = conversation(&messages).unwrap_err();
            assert!(message.contains(problem), "{messages}: {message}");
        }
    }
}
