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

#[test]
fn strings_hold_characters_only() {
    check(
        &Grammar::from_json_schema(r#"{"type":"string","maxLength":2}"#).unwrap(),
        &[r#""😀é""#, r#""\u00e9\n""#, r#""\ud7ff\uE000""#],
        &[r#""\ud800""#, r#""\uDFFF""#, "\"\n\"", r#""abc""#, r#""\x""#],
    );
}

#[test]
fn an_empty_list_of_properties_has_none() {
    let schema = |more: &str| Grammar::from_json_schema(&format!(r#"{{"type":"object"{more}}}"#)).unwrap();
    let members = [r#"{"a": 1}"#];
    check(&schema(r#","properties":{}"#), &["{}"], &members);
    check(&schema(""), &members, &[]);
    check(
        &schema(r#","properties":{},"additionalProperties":true"#),
        &members,
        &[],
    );
}

#[test]
fn lists_in_lists_do_not_double() {
    for (start, end) in [
        (r#"{"type":"array","items":"#, "}"),
        (r#"{"type":"object","additionalProperties":"#, "}"),
    ] {
        let schema = format!("{}{{}}{}", start.repeat(60), end.repeat(60));
        Grammar::from_json_schema(&schema).unwrap();
    }
}
