use super::*;
use kwaainet_types::Role;

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

const OPTIONS: RenderOptions = RenderOptions {
    add_generation_prompt: true,
    now_unix_ms: 1_721_946_645_000, // 2024-07-25 22:30:45 UTC, a Thursday
};

fn render(source: &str, messages: &[ChatMessage]) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(messages, OPTIONS)
}

fn text(source: &str) -> String {
    render(
        source,
        &[message(Role::User, "Hi"), message(Role::Assistant, "Yes?")],
    )
    .unwrap()
}

#[test]
fn chatml_for_models_without_a_template() {
    let template = ChatTemplate::chatml("", "");
    assert!(template.note().is_some());
    let prompt = template
        .render(&[message(Role::User, "Hi\nyou")], OPTIONS)
        .unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>user\nHi\nyou<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn whitespace_is_trimmed_as_transformers_does() {
    let source = "{% for m in messages %}\n    {% if true %}\n{{ m.role }}: {{ m['content'] }}\n    {% endif %}\n{% endfor %}\nend\n";
    assert_eq!(text(source), "user: Hi\nassistant: Yes?\nend");
}

#[test]
fn python_methods_and_functions_work() {
    for (source, expected) in [
        ("{{ ' a '.strip() ~ 'ab'.upper() }}", "aAB"),
        (
            "{{ 'a-b-c'.split('-')[-1] }}{{ 'a,b'.replace(',', ';') }}",
            "ca;b",
        ),
        (
            "{{ 'x'.join(['1', '2']) }}{{ 'abc'.startswith('ab') }}",
            "1x2True",
        ),
        (
            "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
            "b1a2",
        ),
        ("{{ '<{}|{}{0}>'.format('a', 2) }}", "<a|2a>"),
        ("{{ {'a': none}.get('b', 'c') }}{{ messages[1:]|length }}", "c1"),
        (
            "{{ {'b': [1, 2.5, 'ü<>'], 'a': true}|tojson }}",
            r#"{"b": [1, 2.5, "ü<>"], "a": true}"#,
        ),
        (
            "{{ {'a': [], 'b': {'c': 1}}|tojson(indent=2) }}",
            "{\n  \"a\": [],\n  \"b\": {\n    \"c\": 1\n  }\n}",
        ),
        (
            "{{ strftime_now('%d %b %Y, %A %H:%M:%S %p %y%%') }}",
            "25 Jul 2024, Thursday 22:30:45 PM 24%",
        ),
        (
            "{% set ns = namespace(a=1) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}",
            "3",
        ),
        ("{%- set a, b = 1, [2, 3] -%} {{ a }}{{ b[1] }}", "13"),
        (
            "{% set x = 'y' if 1 else 'n' %}{{ x }}{% set z %}q{{ x }}{% endset %}{{ z }}",
            "yqy",
        ),
        (
            "{% set x = messages|selectattr('role', 'equalto', 'user')|list %}{{ x|length }}",
            "1",
        ),
        (
            "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') }}{{ bos_token }}{{ eos_token }}",
            "<a><s></s>",
        ),
        (
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}",
            "0",
        ),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        (
            "{{ '{% set x = 1 %}' }}{# {% set y = 1 #}{% raw %}{% set z = {{ %}{% endraw %}",
            "{% set x = 1 %}{% set z = {{ %}",
        ),
        ("{% set x = '%}' ~ \"}}\" ~ 'it\\'s' %}{{ x }}", "%}}}it's"),
        (
            "{% set x = {'a': {'b': 1}} %}{{ x.a.b }}{{ x['a'] == {'b': 1} }}",
            "1True",
        ),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn a_refusal_is_told_in_the_templates_own_words() {
    let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
    assert_eq!(error, TemplateError::Raised("roles must alternate".to_owned()));
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}", "", "").unwrap_err();
    assert!(matches!(error, TemplateError::Syntax { line: 2, .. }), "{error}");
}

/// Templates that loop, allocate or nest, each in its own way.
fn attacks() -> Vec<(&'static str, String)> {
    let in_loop = |value: &str| {
        format!(
            "{{% set n = namespace(x=[1]) %}}{{% for a in range(9999) %}}{{% for b in range(9999) %}}\
             {{% set n.x = {value} %}}{{% endfor %}}{{% endfor %}}{{{{ n.x|string|length }}}}"
        )
    };
    let big = "{% set x = 'a' * 60000 %}";
    let list = format!("[{}]", "x,".repeat(250));
    let lines = |first: &str, line: &str, last: &str| format!("{first}{}{last}", line.repeat(8000));
    let mut attacks: Vec<(&'static str, String)> = vec![
        ("loop", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".into()),
        ("output", "{% for a in range(99999) %}{{ messages }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}".into()),
        ("range", "{{ range(1000000000)|list|length }}".into()),
        ("repeat", "{{ ('x' * 1000000000)|length }}".into()),
        ("repeat list", "{{ ([1] * 1000000000)|length }}".into()),
        ("repeat list less", "{{ ([1] * 90000000)|list|length }}".into()),
        ("power", "{{ 10 ** 1000000000 }}".into()),
        ("macro", "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}".into()),
        ("macro doubling", "{% macro f(n) %}{{ n|string|length }}{{ f([n, n]) }}{% endmacro %}{{ f(1) }}".into()),
        ("macro default doubling", "{% macro f(n, m=[1, 2]) %}{{ f([n, n], [m, m]) }}{{ m|string|length }}{% endmacro %}{{ f(1) }}".into()),
        ("for doubling", format!("{{% set a = [1] %}}{}{{{{ a|string|length }}}}{}", "{% for b in [[a, a, a, a]] %}{% for a in [[b, b, b, b]] %}".repeat(15), "{% endfor %}".repeat(30))),
        ("aliases", format!("{big}{{% for i in range(99999) %}}{{{{ {list}|string|length }}}}{{% endfor %}}")),
        ("aliases by map", format!("{big}{{{{ range(90000)|map('default', x, true)|list|string|length }}}}")),
        ("aliases kept", format!("{big}{{% set y = {list} %}}")),
        ("macro growth", "{% macro f(n) %}{{ f([n, n]) }}{{ f([n]) }}{% endmacro %}{{ f(1) }}".into()),
        ("recursive loop", "{% for i in [1] recursive %}{{ loop([[i]]) }}{% endfor %}".into()),
        ("indent", "{{ 'a\nb'|indent(1000000000) }}".into()),
        ("format filter", "{{ '%1000000000d'|format(1) }}".into()),
        ("format method", "{{ '{:>1000000000}'.format('a') }}".into()),
        ("replace method", format!("{big}{{{{ x.replace('a', x)|length }}}}")),
        ("replace filter", format!("{big}{{{{ x|replace('a', x)|length }}}}")),
        ("join method", format!("{big}{{{{ ','.join([x] * 100000)|length }}}}")),
        ("join filter", format!("{big}{{{{ ([x] * 100000)|join|length }}}}")),
        ("tojson", format!("{big}{{{{ ([x] * 100000)|tojson|length }}}}")),
        ("tojson indent", "{{ ([1] * 9000000)|tojson(indent=1000000000)|length }}".into()),
        ("split", format!("{big}{{% for i in range(9999) %}}{{{{ x.split('a')|length }}}}{{% endfor %}}")),
        ("center", "{{ 'a'|center(1000000000) }}{{ 'a'.center(1000000000) }}".into()),
        ("set block", "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}".into()),
        ("ring", "{% set n = namespace() %}{% set n.x = n %}{{ n }}".into()),
        ("ring in a list", "{% set n = namespace() %}{% set n.x = [[n]] %}{{ n }}".into()),
        ("ring in a namespace", "{% set n = namespace() %}{% set n.x = namespace(y=n) %}{{ n }}".into()),
        ("nested lines", lines("{% set x = [] %}", "{%set x=[[x]]%}", "{{ x|length }}")),
        ("nested namespaces", lines("{% set x = 1 %}", "{%set x=namespace(a=x)%}", "{{ 1 }}")),
        ("unclosed", "{{ ".repeat(30_000)),
        ("brackets", format!("{{{{ {} }}}}", "[".repeat(100_000))),
        ("parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))),
        ("ifs", format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000))),
        ("loops", "{% for a in b %}".repeat(7000)),
        ("elifs", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000))),
        ("too long", " ".repeat(200_000)),
        ("many attributes", format!("{{{{ a{} }}}}", ".b".repeat(30_000))),
        ("strings", format!("{{{{ 'a'{} }}}}", "~'a'".repeat(30_000))),
    ];
    for end in [
        "|string|length",
        " ~ 'a'",
        "|map('upper')|list|length",
        "|sort|length",
        "|unique|list|length",
        "|lines|length",
        "|e|length",
        "|safe|length",
        "|trim|length",
        "|title|length",
        "|upper|length",
        "|capitalize|length",
        "|sum(start='')",
        "|select|list|length",
        "|reverse|list|length",
        "|list|string|length",
        "|first ~ x * 100000",
        "|max",
        "|tojson",
        "|join(x)|length",
        "|map('replace', 'a', x)|list|length",
        "|map('tojson')|list|length",
        "|map('join', x)|list|length",
        "|map('indent', 99999)|list|length",
        "|map('string')|join|length",
        "|items|list|length",
        "|dictsort|length",
        "|replace('a', x)|length",
        "|default(x)|string|length",
        "|list|map('list')|list|length",
        "|list|map('reverse')|list|length",
        "|format|length",
        "|batch(3)|length",
    ] {
        attacks.push((end, format!("{big}{{{{ {list}{end} }}}}{{% for i in range(99999) %}}{{% for j in range(99999) %}}{{% endfor %}}{{% endfor %}}")));
    }
    let formats = "'%s' * 5000";
    attacks.push((
        "format strings",
        format!("{big}{{{{ ({formats})|format({}) }}}}", "x,".repeat(100)),
    ));
    for (name, value) in [
        ("double by ~", "n.x ~ n.x"),
        ("double by +", "n.x + n.x"),
        ("double list", "[n.x, n.x]"),
        ("nest list", "[n.x]"),
        ("nest map", "{'a': n.x}"),
        ("nest namespace", "namespace(a=n.x)"),
        ("grow list", "n.x + [1]"),
        ("slice", "(n.x * 1000)[1:]"),
        ("reverse", "n.x|reverse"),
        ("map", "n.x|map('string')"),
        ("items", "{'a': n.x}.items()"),
        ("items filter", "{'a': n.x}|items"),
        ("dictsort", "{'a': n.x}|dictsort"),
        ("values", "{'a': n.x}.values()"),
        ("batch", "n.x|batch(1)|list"),
        ("sort", "(n.x + n.x)|sort"),
        ("string", "n.x|string ~ n.x|string"),
    ] {
        attacks.push((name, in_loop(value)));
    }
    attacks
}

/// Templates at the limits of one tag and of nesting: they may work or fail, but must not exhaust the stack.
fn at_the_limits() -> Vec<(&'static str, String)> {
    let tag = |open: &str, middle: &str, close: &str| {
        let count = (super::source::LONGEST_TAG - 20) / (open.trim().len() + close.trim().len());
        format!(
            "{{{{ {}1{}{} }}}}",
            open.repeat(count),
            middle,
            close.repeat(count)
        )
    };
    let nested =
        |open: &str, close: &str, count: usize| format!("{}x{}", open.repeat(count), close.repeat(count));
    vec![
        ("not", tag("not ", "", "")),
        ("minus", tag("-", "", "")),
        ("attributes", tag("", "", ".b")),
        ("items", tag("", "", "[0]")),
        ("calls", tag("", "", "()")),
        ("filters", tag("", "", "|e")),
        ("plus", tag("", "", "+1")),
        ("power", tag("", "", "**1")),
        ("concatenation", tag("", "", "~1")),
        ("and", tag("", "", " and 1")),
        ("or", tag("", "", " or 0")),
        ("compare", tag("", "", "<1")),
        ("in", tag("", "", " in a")),
        ("tests", tag("", "", " is odd")),
        ("ternary", tag("1 if 1 else ", "", "")),
        ("ternary condition", tag("", "", " if 1 else 1")),
        (
            "elifs",
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(100)),
        ),
        ("ifs", nested("{% if 1 %}", "{% endif %}", 32)),
        ("fors", nested("{% for a in [1] %}", "{% endfor %}", 32)),
        (
            "brackets",
            format!("{{{{ {}{} }}}}", "[".repeat(12), "]".repeat(12)),
        ),
        (
            "deepest value",
            format!(
                "{{% set n = namespace(x=[1]) %}}{{% for i in range(39) %}}{{% set n.x = [n.x] %}}{{% endfor %}}\
                 {{% macro f(x) %}}{{{{ f({}x{}) }}}}{{{{ x == [x] }}}}{{{{ x }}}}{{{{ x|tojson }}}}{{% endmacro %}}{{{{ f(n.x) }}}}",
                "[".repeat(9),
                "]".repeat(9)
            ),
        ),
    ]
}

/// A quarter of what a browser's worker has, and less than any native thread.
const SMALL_STACK: usize = 256 << 10;

fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(SMALL_STACK).spawn(work);
    thread.unwrap().join().unwrap();
}

#[test]
fn attacks_end_with_a_named_error() {
    on_a_small_stack(|| {
        for (name, source) in attacks() {
            let error = match render(&source, &[message(Role::User, "Hi")]) {
                Ok(prompt) => panic!("{name} gave {} bytes", prompt.len()),
                Err(error) => error,
            };
            println!("{name}: {error}");
        }
    });
}

#[test]
fn what_is_just_allowed_fits_a_small_stack() {
    on_a_small_stack(|| {
        for (name, source) in at_the_limits() {
            println!("{name}: {:?}", render(&source, &[]).map(|prompt| prompt.len()));
        }
    });
}

#[test]
fn a_long_conversation_has_enough_fuel() {
    let messages: Vec<ChatMessage> = (0..4000)
        .map(|i| {
            message(
                if i % 2 == 0 { Role::User } else { Role::Assistant },
                &"word ".repeat(100),
            )
        })
        .collect();
    let source = "{% set ns = namespace(n=0) %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('no') }}{% endif %}{% set ns.n = ns.n + 1 %}{% set content = m['content'] | trim %}\
        {{ '<start_of_turn>' + m['role'] + '\n' + content + '<end_of_turn>\n' }}{% endfor %}";
    assert!(render(source, &messages).unwrap().len() > 4000 * 500);
}
