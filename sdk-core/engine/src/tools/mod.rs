//! Tool calls: how a model is shown tools, how it writes a call, and how calls are read from what it writes.
//!
//! Models were trained on different notations, which their chat templates tell apart, as llama.cpp does (`common/chat.cpp`).
//! A notation is three things: what the template is given ([`prompt`]), a grammar that lets nothing but text and valid calls be
//! written ([`rules`]), and a reader that separates them as they come ([`ToolStream`]). The grammar leaves text free up to the
//! word that begins a call, and that needs no machinery besides the grammar's own: "no such word yet" is a few rules.

mod prompt;
mod rules;
mod stream;
#[cfg(test)]
mod tests;

use kwaainet_types::ToolOptions;

use crate::error::EngineError;
use crate::grammar::{Grammar, GrammarError, Json};

pub(crate) use prompt::{Shown, show};
pub use stream::ToolStream;

/// The most calls of one answer.
pub(crate) const MOST_CALLS: usize = 16;
/// Deepest nesting of what a template is given as an object; it keeps nothing deeper than 40 (`chat_template/functions.rs`).
const DEEPEST: usize = 32;
/// The parameters of a tool that names none: no arguments.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{},"additionalProperties":false}"#;

/// How a model writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>` around `{"name": …, "arguments": …}`, anywhere in the text: Hermes, Qwen 2.5 and 3, Granite 4.
    Hermes,
    /// `{"name": …, "parameters": …}` and nothing else: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`: Mistral 7B 0.3, Nemo.
    Mistral,
    /// For models that know none of these: JSON that is a call or an answer, as a system message explains.
    Generic,
}

impl ToolFormat {
    /// The notation that a template writes.
    pub(crate) fn of_template(source: &str) -> Self {
        let has = |part: &str| source.contains(part);
        if !has("tools") {
            return Self::Generic;
        }
        // Others use the same words around XML (Qwen3-Coder, GLM 4) or around a name alone (Mistral Small 3.2).
        let is_json = has("\"arguments\"") && !has("<function=") && !has("<arg_key>");
        if has("<tool_call>") && has("<tools>") && is_json {
            return Self::Hermes;
        }
        if has("<|start_header_id|>") && has("ipython") && has("\"parameters\": ") && !has("<function=") {
            return Self::Llama3;
        }
        if has("[TOOL_CALLS]") && !has("[ARGS]") {
            return Self::Mistral;
        }
        Self::Generic
    }

    /// What an answer must follow; nothing when there is nothing to call.
    ///
    /// # Errors
    /// As [`check_tools`], and [`GrammarError::TooLarge`] when all of them together are.
    pub fn grammar(self, options: &ToolOptions) -> Result<Option<Grammar>, EngineError> {
        let callable: Vec<_> = options.callable().collect();
        if callable.is_empty() {
            return Ok(None);
        }
        let schemas: Vec<_> = callable
            .iter()
            .enumerate()
            .map(|(index, tool)| (rules::arguments(index), parameters(tool)))
            .collect();
        let text = rules::write(self, &callable, options);
        Ok(Some(Grammar::with_schemas(&text, &schemas)?))
    }

    /// Control tokens that are part of an answer's text in this notation.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Mistral => &["[TOOL_CALLS]"],
            Self::Hermes | Self::Llama3 | Self::Generic => &[],
        }
    }

    /// The word that begins a call behind free text.
    const fn trigger(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("<tool_call>"),
            Self::Mistral => Some("[TOOL_CALLS]"),
            Self::Llama3 | Self::Generic => None,
        }
    }

    /// What the arguments are called.
    const fn arguments(self) -> &'static str {
        match self {
            Self::Llama3 => "parameters",
            Self::Hermes | Self::Mistral | Self::Generic => "arguments",
        }
    }
}

fn parameters(tool: &kwaainet_types::Tool) -> &str {
    tool.parameters.as_deref().unwrap_or(NO_PARAMETERS)
}

/// Checks that arguments can be held to the schema of each tool.
///
/// # Errors
/// [`EngineError::Tool`] naming the first tool whose schema cannot be enforced.
pub fn check_tools(options: &ToolOptions) -> Result<(), EngineError> {
    for tool in &options.tools {
        check_schema(parameters(tool)).map_err(|error| EngineError::Tool {
            name: tool.name.clone(),
            error,
        })?;
    }
    Ok(())
}

fn check_schema(text: &str) -> Result<(), GrammarError> {
    let wrong = |reason: &str| {
        Err(GrammarError::Schema {
            pointer: String::new(),
            reason: reason.to_owned(),
        })
    };
    Grammar::from_json_schema(text)?;
    let schema: Json = serde_json::from_str(text).map_err(|error| GrammarError::Json(error.to_string()))?;
    if schema.get("type").and_then(Json::text) != Some("object") {
        return wrong("arguments are an object: give it the type \"object\"");
    }
    if schema.is_deeper_than(DEEPEST) {
        return wrong("it is nested deeper than 32");
    }
    Ok(())
}
