//! `tools` and `tool_choice` of a request, and calls in an answer, in OpenAI's shape.

use kwaainet_types::{Tool, ToolCall, ToolChoice, ToolOptions};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::ApiError;

const TOOLS_ARE: &str =
    r#"each is {"type": "function", "function": {"name": …, "description": …, "parameters": …}}"#;
const CHOICES_ARE: &str = r#"tool_choice is "auto", "none", "required" or {"type": "function", "function": {"name": …}}, and parallel_tool_calls true or false"#;

/// The fields of a request that are read from its text: values would have lost the order of the schemas' members.
#[derive(Deserialize)]
struct WithTools {
    tools: Option<Vec<Offered>>,
}

#[derive(Deserialize)]
struct Offered {
    #[serde(rename = "type")]
    _kind: Kind,
    function: Function,
}

/// OpenAI has other tools, which its own servers run.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WithChoice {
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Word(Word),
    Named(Named),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Auto,
    None,
    Required,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Named {
    Function { function: Name },
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// What the model may call.
pub(super) fn parse(body: &[u8]) -> Result<ToolOptions, ApiError> {
    let WithTools { tools } = serde_json::from_slice(body)
        .map_err(|error| ApiError::field("tools", format!("tools: {error}; {TOOLS_ARE}")))?;
    let WithChoice {
        tool_choice,
        parallel_tool_calls,
    } = serde_json::from_slice(body).map_err(|_| ApiError::field("tool_choice", CHOICES_ARE))?;
    let tool = |Offered { function, .. }| {
        let Function {
            name,
            description,
            parameters,
        } = function;
        Tool {
            name,
            description,
            parameters: parameters.map(|schema| schema.get().to_owned()),
        }
    };
    let choice = |choice| match choice {
        Choice::Word(Word::Auto) => ToolChoice::Auto,
        Choice::Word(Word::None) => ToolChoice::None,
        Choice::Word(Word::Required) => ToolChoice::Required,
        Choice::Named(Named::Function {
            function: Name { name },
        }) => ToolChoice::Function { name },
    };
    Ok(ToolOptions {
        tools: tools.unwrap_or_default().into_iter().map(tool).collect(),
        tool_choice: tool_choice.map(choice),
        parallel_tool_calls,
    })
}

/// The deltas of calls: for each, first who is called, then with what.
pub(super) fn deltas(calls: &[ToolCall]) -> Vec<Value> {
    let of = |(index, ToolCall::Function { id, function }): (usize, &ToolCall)| {
        [
            json!({ "index": index, "id": id, "type": "function",
                "function": { "name": function.name, "arguments": "" } }),
            json!({ "index": index, "function": { "arguments": function.arguments } }),
        ]
    };
    let deltas = calls.iter().enumerate().flat_map(of);
    deltas.map(|call| json!({ "tool_calls": [call] })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_with_their_schemas_as_they_are_written() {
        let body = br#"{"tools":[{"type":"function","function":{"name":"f","strict":true,"description":null,
            "parameters":{"z": 1, "a": 2}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"x":{}}"#;
        let options = parse(body).unwrap();
        let [tool] = options.tools.as_slice() else {
            panic!("{options:?}")
        };
        assert_eq!(tool.parameters.as_deref(), Some(r#"{"z": 1, "a": 2}"#));
        let name = "f".to_owned();
        assert_eq!(options.tool_choice, Some(ToolChoice::Function { name }));
        for (body, choice) in [
            (r#"{"tools":null}"#, None),
            (r#"{"tool_choice":"none"}"#, Some(ToolChoice::None)),
            (r#"{"tool_choice":"required"}"#, Some(ToolChoice::Required)),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().tool_choice, choice);
        }
    }

    #[test]
    fn what_is_not_in_openais_shape_is_refused_by_name() {
        for (body, param) in [
            (r#"{"tools":[{"type":"function"}]}"#, "tools"),
            (r#"{"tools":[{"type":"web_search"}]}"#, "tools"),
            (r#"{"tools":{}}"#, "tools"),
            (r#"{"tool_choice":"any"}"#, "tool_choice"),
            (r#"{"tool_choice":{"type":"function"}}"#, "tool_choice"),
            (r#"{"parallel_tool_calls":"yes"}"#, "tool_choice"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().param, Some(param), "{body}");
        }
    }
}
