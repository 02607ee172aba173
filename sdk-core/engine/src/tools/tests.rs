use kwaainet_types::{ChatMessage, FunctionCall, Role, Tool, ToolCall, ToolChoice, ToolOptions};

use super::*;
use crate::chat_template::{ChatTemplate, RenderOptions};

const FORMATS: [ToolFormat; 4] = [
    ToolFormat::Hermes,
    ToolFormat::Llama3,
    ToolFormat::Mistral,
    ToolFormat::Generic,
];

fn options(choice: ToolChoice, parallel: bool) -> ToolOptions {
    let place = r##"{"type":"object","properties":{"where":{"$ref":"#/$defs/place"}},"required":["where"],
        "additionalProperties":false,"$defs":{"place":{"type":"string","maxLength":20}}}"##;
    let sum = r#"{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}},"required":["b","a"],
        "additionalProperties":false}"#;
    let tool = |name: &str, parameters: Option<&str>| Tool {
        name: name.to_owned(),
        description: Some("Says \"it\"".to_owned()),
        parameters: parameters.map(str::to_owned),
    };
    ToolOptions {
        tools: vec![
            tool("weather", Some(place)),
            tool("add", Some(sum)),
            tool("now", None),
        ],
        tool_choice: Some(choice),
        parallel_tool_calls: Some(parallel),
    }
}

fn auto() -> ToolOptions {
    options(ToolChoice::Auto, true)
}

fn allows(format: ToolFormat, options: &ToolOptions, text: &str) -> bool {
    format.grammar(options).unwrap().unwrap().allows(text).unwrap()
}

type Told = (String, Vec<(String, String)>);

fn told(text: String, calls: Vec<FunctionCall>) -> Told {
    let calls = calls.into_iter().map(|call| (call.name, call.arguments));
    (text, calls.collect())
}

fn read(format: ToolFormat, pieces: &[&str]) -> Told {
    let mut stream = ToolStream::new(format);
    let mut text: String = pieces.iter().map(|piece| stream.push(piece)).collect();
    let (rest, calls) = stream.finish(true);
    text.push_str(&rest);
    told(text, calls)
}

/// What models write, and what it says.
fn samples() -> Vec<(ToolFormat, &'static str, Told)> {
    let call = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
    let weather = |place: &str| call("weather", &format!(r#"{{"where": "{place}"}}"#));
    let text = |text: &str| (text.to_owned(), Vec::new());
    vec![
        (
            ToolFormat::Hermes,
            "I look \n\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"where\": \"</tool_call>{\"}}\n</tool_call>",
            ("I look".to_owned(), vec![weather("</tool_call>{")]),
        ),
        (
            ToolFormat::Hermes,
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\":2}}\n</tool_call>",
            (
                String::new(),
                vec![call("now", "{}"), call("add", r#"{"b": 1, "a":2}"#)],
            ),
        ),
        (
            ToolFormat::Hermes,
            "1 <to 2, <<tool_cal >l> 日本 \n ",
            text("1 <to 2, <<tool_cal >l> 日本 \n "),
        ),
        (ToolFormat::Hermes, "", text("")),
        (
            ToolFormat::Llama3,
            r#"{"name": "weather", "parameters": {"where": "\"Zürich\""}}"#,
            (String::new(), vec![weather("\\\"Zürich\\\"")]),
        ),
        (ToolFormat::Llama3, "A { is no call", text("A { is no call")),
        (
            ToolFormat::Mistral,
            "Ha[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"weather\", \"arguments\": {\"where\": \"[x]\"}}]",
            ("Ha".to_owned(), vec![call("now", "{}"), weather("[x]")]),
        ),
        (ToolFormat::Mistral, "[TOOL] [[TOOL_", text("[TOOL] [[TOOL_")),
        (
            ToolFormat::Generic,
            r#"{"tool_call": {"name": "add", "arguments": {"b": -3, "a": 4}}}"#,
            (String::new(), vec![call("add", r#"{"b": -3, "a": 4}"#)]),
        ),
        (
            ToolFormat::Generic,
            r#"{"response": "a\"b\\\n\u00e9 é{\"tool_call\"}"}"#,
            text("a\"b\\\né é{\"tool_call\"}"),
        ),
    ]
}

#[test]
fn what_models_write_is_allowed_and_read_however_it_is_cut() {
    for (format, written, expected) in samples() {
        assert!(allows(format, &auto(), written), "{format:?} {written}");
        let whole: Vec<char> = written.chars().collect();
        for first in 0..=whole.len() {
            let (one, rest) = whole.split_at(first);
            let one: String = one.iter().collect();
            // What was given out depends on the text alone: an answer that is resumed goes on where it was.
            let mut at_once = ToolStream::new(format);
            let mut by_letters = ToolStream::new(format);
            let letters: String = one.chars().map(|c| by_letters.push(&c.to_string())).collect();
            assert_eq!(at_once.push(&one), letters, "{format:?} {one}");
            for second in 0..=rest.len() {
                let (two, three) = rest.split_at(second);
                let (two, three): (String, String) = (two.iter().collect(), three.iter().collect());
                assert_eq!(
                    read(format, &[&one, &two, &three]),
                    expected,
                    "{one} | {two} | {three}"
                );
            }
        }
    }
}

#[test]
fn of_a_call_that_is_cut_off_nothing_is_told() {
    for (format, written, (text, _)) in samples() {
        for (end, _) in written.char_indices() {
            let mut stream = ToolStream::new(format);
            let told = stream.push(written.get(..end).unwrap());
            assert!(text.starts_with(&told), "{format:?} {told:?} {text:?}");
            assert_eq!(stream.finish(false), (String::new(), Vec::new()));
        }
    }
}

#[test]
fn only_valid_calls_can_be_written() {
    let hermes = |call: &str| format!("<tool_call>\n{call}\n</tool_call>");
    for wrong in [
        r#"{"name": "none", "arguments": {}}"#,
        r#"{"name": "weather", "arguments": {}}"#,
        r#"{"name": "weather", "arguments": {"where": 5}}"#,
        r#"{"name": "weather", "arguments": {"where": "too long to be a place"}}"#,
        r#"{"name": "add", "arguments": {"where": "x"}}"#,
        r#"{"name": "now", "arguments": {"x": 1}}"#,
        r#"{"name": "now", "arguments": {}"#,
    ] {
        assert!(!allows(ToolFormat::Hermes, &auto(), &hermes(wrong)), "{wrong}");
    }
    let now = hermes(r#"{"name": "now", "arguments": {}}"#);
    assert!(allows(ToolFormat::Hermes, &auto(), &format!("x{now}")));
    assert!(!allows(
        ToolFormat::Hermes,
        &auto(),
        &format!("{now} text behind")
    ));
    let single = options(ToolChoice::Auto, false);
    let twice = format!("{now}\n{now}");
    assert!(allows(ToolFormat::Hermes, &auto(), &twice) && !allows(ToolFormat::Hermes, &single, &twice));
    assert!(!allows(ToolFormat::Llama3, &auto(), r#"{"a": 1}"#));
}

#[test]
fn a_choice_is_kept() {
    for (format, written, (text, calls)) in samples() {
        let is_call = text.is_empty() && !calls.is_empty();
        let required = options(ToolChoice::Required, true);
        assert_eq!(
            allows(format, &required, written),
            is_call,
            "{format:?} {written}"
        );
        let named = options(
            ToolChoice::Function {
                name: "add".to_owned(),
            },
            true,
        );
        let is_add = is_call && calls.iter().all(|(name, _)| name == "add");
        assert_eq!(allows(format, &named, written), is_add, "{format:?} {written}");
    }
    for format in FORMATS {
        assert_eq!(format.grammar(&options(ToolChoice::None, true)).unwrap(), None);
        assert_eq!(format.grammar(&ToolOptions::default()).unwrap(), None);
    }
}

#[test]
fn long_text_and_many_tools_stay_cheap() {
    let mut options = auto();
    let first = options.tools.first().unwrap().clone();
    options.tools = (0..kwaainet_types::MOST_TOOLS)
        .map(|n| Tool {
            name: format!("tool_{n}"),
            ..first.clone()
        })
        .collect();
    let text = "a <tool_ca [TOOL_ < x\n".repeat(5000);
    for format in FORMATS {
        let grammar = format.grammar(&options).unwrap().unwrap();
        let allowed = grammar.allows(&text).unwrap();
        assert_eq!(allowed, format != ToolFormat::Generic);
    }
}

#[test]
fn a_schema_that_cannot_be_enforced_is_told_with_its_tool() {
    let deep = format!(
        r#"{{"type":"object","properties":{{"x":{}{}}}}}"#,
        r#"{"type":"array","items":"#.repeat(33),
        "{}".to_owned() + &"}".repeat(33)
    );
    for (schema, problem) in [
        (
            r#"{"type":"object","properties":{"x":{"type":"string","pattern":"a"}}}"#,
            "pattern",
        ),
        (r#"{"type":"string"}"#, "type \"object\""),
        ("{}", "type \"object\""),
        ("{", "not JSON"),
        (deep.as_str(), "deeper than 32"),
    ] {
        let mut options = auto();
        options.tools[1].parameters = Some(schema.to_owned());
        let error = check_tools(&options).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("\"add\"") && message.contains(problem),
            "{message}"
        );
        assert_eq!(error.code(), kwaainet_types::ErrorCode::BadRequest);
    }
    check_tools(&auto()).unwrap();
}

#[test]
fn the_notation_is_the_templates() {
    for (source, format) in [
        (
            r#"{{ tools }} <tools> <tool_call> {"name": .., "arguments": ..}"#,
            ToolFormat::Hermes,
        ),
        (
            r#"{{ tools }} <tools> <tool_call> <function= "arguments""#,
            ToolFormat::Generic,
        ),
        (
            r#"tools <|start_header_id|>ipython<|end_header_id|> '"parameters": '"#,
            ToolFormat::Llama3,
        ),
        ("tools [TOOL_CALLS][", ToolFormat::Mistral),
        ("tools [TOOL_CALLS]f[ARGS]", ToolFormat::Generic),
        ("{{ messages }}", ToolFormat::Generic),
    ] {
        assert_eq!(ToolFormat::of_template(source), format, "{source}");
    }
}

const RENDER: RenderOptions = RenderOptions {
    add_generation_prompt: true,
    now_unix_ms: 0,
};

fn conversation(id: &str) -> Vec<ChatMessage> {
    let call = ToolCall::Function {
        id: id.to_owned(),
        function: FunctionCall {
            name: "add".to_owned(),
            arguments: r#"{"b": 1, "a": [2.5, null]}"#.to_owned(),
        },
    };
    let result = |text: &str| ChatMessage {
        tool_call_id: Some(id.to_owned()),
        ..ChatMessage::new(Role::Tool, text)
    };
    vec![
        ChatMessage::new(Role::User, "1 + 2?"),
        ChatMessage {
            content: None,
            tool_calls: Some(vec![call]),
            ..ChatMessage::new(Role::Assistant, "")
        },
        result("3"),
        result("\"4\""),
    ]
}

#[test]
fn templates_are_given_tools_and_calls_as_transformers_gives_them() {
    let source = "{# <tools> <tool_call> \"arguments\" [TOOL_CALLS] #}{% if tools is defined %}{{ tools | tojson }}{% endif %}\
        {% for m in messages %}|{{ m.role }}:{{ m.content }}{% if 'tool_calls' in m %}{{ m.tool_calls | tojson }}{% endif %}\
        {{ m.tool_call_id }}{{ m.name }}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let mut options = auto();
    options.tools.drain(..1);
    let prompt = template
        .render_with_tools(&conversation("x"), &options, RENDER)
        .unwrap();
    assert_eq!(
        prompt,
        concat!(
            r#"[{"type": "function", "function": {"name": "add", "description": "Says \"it\"", "parameters": {"type": "object", "#,
            r#""properties": {"b": {"type": "integer"}, "a": {"type": "integer"}}, "required": ["b", "a"], "#,
            r#""additionalProperties": false}}}, {"type": "function", "function": {"name": "now", "description": "Says \"it\"", "#,
            r#""parameters": {"type": "object", "properties": {}, "additionalProperties": false}}}]"#,
            r#"|user:1 + 2?|assistant:[{"id": "x", "type": "function", "function": {"name": "add", "arguments": "#,
            r#"{"b": 1, "a": [2.5, null]}}}]|tool:3xadd|tool:"4"xadd"#,
        )
    );
    options.tool_choice = Some(ToolChoice::None);
    let prompt = template
        .render_with_tools(&conversation("x"), &options, RENDER)
        .unwrap();
    assert!(prompt.starts_with("|user:"), "{prompt}");
    // Mistral's templates refuse other ids.
    let mistral = ChatTemplate::new(&source.replace("<tool_call>", ""), "", "").unwrap();
    for (id, shown) in [("call_123456", "000000000"), ("aB3456789", "aB3456789")] {
        let prompt = mistral
            .render_with_tools(&conversation(id), &options, RENDER)
            .unwrap();
        assert!(prompt.contains(&format!("|tool:3{shown}add")), "{prompt}");
        assert!(prompt.contains(&format!("\"id\": \"{shown}\"")), "{prompt}");
    }
}

#[test]
fn templates_that_know_no_tools_are_told_in_words() {
    let source = "{% for m in messages %}|{{ m.role }}:{{ m.content }}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let render = |options: &ToolOptions| {
        template
            .render_with_tools(&conversation("x"), options, RENDER)
            .unwrap()
    };
    let told = concat!(
        r#"|user:1 + 2?|assistant:{"tool_call": {"name": "add", "arguments": {"b": 1, "a": [2.5, null]}}}"#,
        r#"|user:{"tool_response": {"name": "add", "content": "3"}}"#,
        "\n",
        r#"{"tool_response": {"name": "add", "content": "\"4\""}}"#,
    );
    assert_eq!(render(&ToolOptions::default()), told);
    let prompt = render(&auto());
    assert!(
        prompt.starts_with("|system:You can call") && prompt.ends_with(told),
        "{prompt}"
    );
    assert!(prompt.contains("\n{\"name\": \"now\", ") && prompt.contains("{\"response\": \"...\"}"));
    let prompt = render(&options(ToolChoice::Required, false));
    assert!(!prompt.contains("{\"response\""), "{prompt}");
}
