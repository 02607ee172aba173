//! The grammar of an answer that may call tools.

use kwaainet_types::{Tool, ToolOptions};

use super::{MOST_CALLS, ToolFormat};

/// The name of the rule for the arguments of a tool, whose schema defines it.
pub(super) fn arguments(index: usize) -> String {
    format!("arguments-{index}")
}

/// Rules in GBNF, which refer to those of the tools' schemas.
pub(super) fn write(format: ToolFormat, callable: &[&Tool], options: &ToolOptions) -> String {
    let mut text = String::new();
    let mut rule = |name: &str, body: &str| text.push_str(&format!("{name} ::= {body}\n"));
    let calls: Vec<String> = (0..callable.len()).map(|index| format!("call-{index}")).collect();
    rule("call", &calls.join(" | "));
    for (index, (name, tool)) in calls.iter().zip(callable).enumerate() {
        // The blanks are those that the models were trained on.
        let start = literal(&format!(
            "{{\"name\": \"{}\", \"{}\": ",
            tool.name,
            format.arguments()
        ));
        rule(name, &format!("{start} {} \"}}\"", arguments(index)));
    }
    let more = match options.parallel_tool_calls {
        Some(true) => MOST_CALLS - 1,
        _ => 0,
    };
    // What stands behind the trigger, or all of a call where there is none.
    let called = match format {
        ToolFormat::Hermes => {
            rule("block", r#""<tool_call>" body"#);
            rule("body", r#""\n" call "\n</tool_call>""#);
            format!(r#"body ("\n" block){{0,{more}}}"#)
        }
        ToolFormat::Mistral => format!(r#"" "? "[" call (", " call){{0,{more}}} "]""#),
        ToolFormat::Llama3 => "call".to_owned(),
        ToolFormat::Generic => r#""{\"tool_call\": " call "}""#.to_owned(),
    };
    rule("called", &called);
    let root = match (format, format.trigger(), options.must_call()) {
        (_, Some(trigger), true) => format!("{} called", literal(trigger)),
        (_, None, true) => "called".to_owned(),
        (_, Some(trigger), false) => {
            until(trigger, &mut rule);
            "text-0".to_owned()
        }
        (ToolFormat::Generic, ..) => r#"called | "{\"response\": \"" j-char* "\"}""#.to_owned(),
        // Whether it is a call shows in the first character.
        _ => "called | ([^{] .*)?".to_owned(),
    };
    rule("root", &root);
    text
}

/// Any text up to the trigger, and behind that what is called: a rule for each number of characters of the trigger that were
/// just written (Knuth, Morris, Pratt 1977).
fn until(trigger: &str, rule: &mut impl FnMut(&str, &str)) {
    let letters: Vec<char> = trigger.chars().collect();
    for (matched, _) in letters.iter().enumerate() {
        let mut ways = Vec::new();
        let mut others = String::from("[^");
        let mut seen = Vec::new();
        for letter in letters.iter().copied() {
            if seen.contains(&letter) {
                continue;
            }
            seen.push(letter);
            match longest(&letters, matched, letter) {
                0 => continue,
                all if all == letters.len() => ways.push(format!("\"{}\" called", escape(letter))),
                some => ways.push(format!("\"{}\" text-{some}", escape(letter))),
            }
            others.push_str(&escape(letter));
        }
        ways.push(format!("{others}] text-0"));
        rule(&format!("text-{matched}"), &format!("({})?", ways.join(" | ")));
    }
}

/// How much of the trigger's beginning has been written, when so much of it and then this letter was.
fn longest(trigger: &[char], matched: usize, letter: char) -> usize {
    let mut written: Vec<char> = trigger.iter().take(matched).copied().collect();
    written.push(letter);
    (0..=written.len())
        .rev()
        .find(|len| trigger.get(..*len).is_some_and(|start| written.ends_with(start)))
        .unwrap_or(0)
}

fn literal(text: &str) -> String {
    let letters: String = text.chars().map(escape).collect();
    format!("\"{letters}\"")
}

/// A character in a text or class, whatever it means there.
fn escape(c: char) -> String {
    format!("\\U{:08x}", u32::from(c))
}
