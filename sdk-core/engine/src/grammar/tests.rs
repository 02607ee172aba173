use super::matcher::Matcher;
use super::*;

fn gbnf(text: &str) -> Grammar {
    Grammar::from_gbnf(text).unwrap()
}

fn check(grammar: &Grammar, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(grammar.allows(text).unwrap(), "{text:?} should be allowed");
    }
    for text in bad {
        assert!(!grammar.allows(text).unwrap(), "{text:?} should not be allowed");
    }
}

#[test]
fn gbnf_is_read_as_llama_cpp_reads_it() {
    let list = "# a list\nroot ::= item (\",\" item)* # and more\nitem ::= [a-c]{2,3} |\n  \"\\x41\" | [^\\x00-\\x7f]+";
    check(
        &gbnf(list),
        &["ab", "abc,A", "ä€😀,ca"],
        &["", "a", "abcd", "A,", "ab;cd", "äa"],
    );
    let nested = "root ::= \"(\" root* \")\"\n";
    check(&gbnf(nested), &["()", "(()(()))"], &["(", "())", ")("]);
    check(
        &gbnf("root ::= (\"a\"?)* \"b\"{2,} .?"),
        &["bb", "aabbb", "bbé"],
        &["b", "bbéé"],
    );
}

#[test]
fn what_cannot_be_followed_is_refused() {
    for (text, reason) in [
        ("root ::= root \"a\" | \"b\"", "left recursion"),
        (
            "root ::= a? b\na ::= \"x\"\nb ::= c | \"y\"\nc ::= \"\" root",
            "left recursion",
        ),
        ("root ::= missing", "not defined"),
        ("other ::= \"a\"", "not defined"),
        ("root ::= \"a\" root", "never be completed"),
        ("root ::= \"a", "line 1"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2"),
        ("root ::= [z-a]", "before it begins"),
        ("root ::= \"a\"{3,2}", "repetitions"),
        ("root ::= *", "nothing before"),
        ("root ::= (\"a\"", "not closed"),
    ] {
        let error = Grammar::from_gbnf(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(65), ")".repeat(65));
    assert!(matches!(
        Grammar::from_gbnf(&deep),
        Err(GrammarError::TooLarge(_))
    ));
    let wide = "root ::= ((\"ab\"{10000}) \"c\"){10000} ((\"d\" [e] \"f\"){10000} \"x\" \"y\"){10000}";
    let many = (0..9)
        .map(|n| format!("r{n} ::= {}\n", wide.trim_start_matches("root ::= ")))
        .collect::<String>();
    assert!(matches!(
        Grammar::from_gbnf(&(many + "root ::= \"\"")),
        Err(GrammarError::TooLarge(_))
    ));
}

#[test]
fn ambiguity_is_bounded() {
    let grammar = gbnf("root ::= \"a\" root \"x\" | \"a\" root \"y\" | \"b\"");
    let mut matcher = grammar.matcher().unwrap();
    assert_eq!(matcher.accept(&[b'a'; 64]), Err(GrammarError::TooAmbiguous));
}

#[test]
fn numbers_keep_to_their_bounds() {
    for (low, high) in [
        (0, 0),
        (-5, 5),
        (7, 1234),
        (-1010, -99),
        (99, 100),
        (-1, 12),
        (10, 19),
    ] {
        let schema = format!(r#"{{"type":"integer","minimum":{low},"maximum":{high}}}"#);
        let grammar = Grammar::from_json_schema(&schema).unwrap();
        for number in -2000..2000 {
            let allowed = grammar.allows(&number.to_string()).unwrap();
            assert_eq!(
                allowed,
                (low..=high).contains(&number),
                "{number} in {low}..={high}"
            );
        }
        assert!(!grammar.allows("007").unwrap());
    }
    let schema = r#"{"type":"number","minimum":-2.5,"maximum":3}"#;
    check(
        &Grammar::from_json_schema(schema).unwrap(),
        &["-2", "-1.999", "-0.5", "0.25", "2.9", "3"],
        &["-2.4", "3.1", "3.0e1", "-3", "4"],
    );
}

#[test]
fn a_schema_that_cannot_be_enforced_is_refused_with_the_place() {
    for (schema, pointer) in [
        (r#"{"type":"string","pattern":"a+"}"#, ""),
        (r#"{"properties":{"a/b":{"multipleOf":2}}}"#, "/properties/a~1b"),
        (r#"{"items":{"uniqueItems":true,"type":"array"}}"#, "/items"),
        (r#"{"oneOf":[{"type":"number"},{"type":"integer"}]}"#, "/oneOf"),
        (
            r#"{"type":"array","prefixItems":[{"$ref":"other.json"}]}"#,
            "/prefixItems/0",
        ),
        (r##"{"$ref":"#/$defs/a"}"##, ""),
        (r#"{"type":"number","minimum":0.1,"maximum":0.9}"#, ""),
        (r#"{"type":"object","minProperties":1}"#, ""),
        (r#"{"required":["a"],"additionalProperties":false}"#, ""),
        ("false", ""),
    ] {
        match Grammar::from_json_schema(schema) {
            Err(GrammarError::Schema { pointer: found, .. }) => assert_eq!(found, pointer, "{schema}"),
            other => panic!("{schema}: {other:?}"),
        }
    }
}

#[test]
fn members_keep_their_order_and_may_be_left_out() {
    let schema = r#"{"type":"object","properties":{"z":{"const":1},"a":{"const":2},"m":{"const":3}},"required":["a"]}"#;
    check(
        &Grammar::from_json_schema(schema).unwrap(),
        &[
            r#"{"a":2}"#,
            r#"{"z":1,"a":2}"#,
            r#"{"a":2,"m":3}"#,
            "{ \"z\": 1,\n  \"a\": 2, \"m\": 3\n}",
        ],
        &[
            "{}",
            r#"{"z":1}"#,
            r#"{"a":2,"z":1}"#,
            r#"{,"a":2}"#,
            r#"{"a":2,}"#,
            r#"{"a":2,"b":1}"#,
        ],
    );
}

/// SplitMix64, as in the sampler.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn schema(&mut self, depth: usize) -> serde_json::Value {
        use serde_json::json;
        let nested = if depth < 4 { 15 } else { 10 };
        let small = self.below(5);
        let low = self.below(4000) as i64 - 2000;
        let high = low + self.below(3000) as i64;
        match self.below(nested) {
            0 => json!({ "type": "string" }),
            1 => json!({ "type": "string", "minLength": small, "maxLength": small + self.below(9) }),
            2 => json!({ "type": "string", "format": self.pick(&["date", "time", "date-time", "uuid"]) }),
            3 => json!({ "type": "integer", "minimum": low, "exclusiveMaximum": high + 1 }),
            4 => json!({ "type": "number", "minimum": low as f64 - 0.5, "maximum": high }),
            5 => json!({ "type": self.pick(&["number", "integer", "boolean", "null"]) }),
            6 => json!({ "enum": ["a\"b", 1, null, [1, { "x": "é" }], small] }),
            7 => json!({ "const": { "k": [low, "\n"] } }),
            8 => json!({ "type": ["integer", "string", "null"], "maximum": high, "minLength": small }),
            9 => self.pick(&[
                json!({ "$ref": "#/$defs/tree" }),
                json!({}),
                json!({ "type": "object" }),
            ]),
            10 => json!({ "anyOf": [self.schema(depth + 1), self.schema(depth + 1)] }),
            11 => json!({ "type": "array", "items": self.schema(depth + 1), "minItems": small,
                "maxItems": small + self.below(3) }),
            12 => json!({ "type": "array", "prefixItems": [self.schema(depth + 1), self.schema(depth + 1)],
                "items": self.pick(&[json!(false), json!({ "type": "null" })]), "minItems": self.below(3) }),
            13 => json!({ "oneOf": [
                { "type": "object", "properties": { "kind": { "const": "a" }, "v": self.schema(depth + 1) },
                    "required": ["kind", "v"], "additionalProperties": false },
                { "type": "object", "properties": { "kind": { "const": "b" } }, "required": ["kind"] },
                { "type": "boolean" }] }),
            _ => {
                let names = ["name", "a b", "\"", "ü", "e/~"];
                let used = &names[..self.below(names.len() + 1)];
                let properties: serde_json::Map<_, _> = used
                    .iter()
                    .map(|name| ((*name).to_owned(), self.schema(depth + 1)))
                    .collect();
                let required: Vec<_> = names.iter().filter(|_| self.below(2) == 0).collect();
                json!({ "type": "object", "properties": properties, "required": required,
                    "additionalProperties": { "type": "integer" } })
            }
        }
    }
}

/// A text that the grammar allows: bytes at random, and from some length on such that bring the end near.
fn write(matcher: &mut Matcher, random: &mut Random) -> String {
    let mut text = Vec::new();
    while !(matcher.is_over() || matcher.is_complete() && random.below(3) == 0) {
        let closing = text.len() > 60;
        if closing && matcher.is_complete() {
            break;
        }
        let ends = b"\"}]nultrefaskbv0123456789".iter().copied();
        let byte = closing
            .then(|| ends.clone().find(|byte| matcher.accept(&[*byte]).unwrap()))
            .flatten();
        let byte = byte.unwrap_or_else(|| {
            let start = random.below(256);
            let mut bytes = (0..=255_u8).map(|byte| byte.wrapping_add(start as u8));
            bytes
                .find(|byte| matcher.accept(&[*byte]).unwrap())
                .expect("the text can go on")
        });
        text.push(byte);
        assert!(text.len() < 20_000, "the text does not come to an end");
    }
    String::from_utf8(text).expect("whole characters")
}

#[test]
fn what_is_written_under_a_thousand_random_schemas_is_valid() {
    let mut random = Random(7);
    for _ in 0..1000 {
        let mut schema = random.schema(0);
        schema["$defs"] = serde_json::json!({ "tree": { "type": "object", "properties": {
            "left": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/tree" }] }, "n": { "type": "integer" } },
            "required": ["n"], "additionalProperties": false } });
        let grammar = Grammar::from_json_schema(&schema.to_string())
            .unwrap_or_else(|error| panic!("{schema}: {error}"));
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        for _ in 0..3 {
            let text = write(&mut grammar.matcher().unwrap(), &mut random);
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(validator.is_valid(&value), "{text} under {schema}");
        }
    }
}

#[test]
fn strings_hold_characters_only() {
    check(
        &Grammar::from_json_schema(r#"{"type":"string","maxLength":2}"#).unwrap(),
        &[r#""😀é""#, r#""\u00e9\n""#, r#""\ud7ff\uE000""#],
        &[r#""\ud800""#, r#""\uDFFF""#, "\"\n\"", r#""abc""#, r#""\x""#],
    );
}
