//! No chat template makes the process allocate without end: counted by an allocator.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use kwaainet_engine::{ChatTemplate, RenderOptions};
use kwaainet_types::{ChatMessage, Role};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator, with the same arguments; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a render may take at its worst, for a conversation of a few bytes: what its fuel pays for (200,000 times
/// 64 bytes), for values in use and for the text that they become.
const LIMIT: usize = 64 << 20;

fn attacks() -> Vec<String> {
    let big = "{% set x = 'a' * 60000 %}";
    let list = format!("[{}]", "x,".repeat(250));
    let in_loop = |start: &str, value: &str| {
        format!(
            "{{% set n = namespace(x={start}) %}}{{% for a in range(9999) %}}{{% for b in range(9999) %}}\
             {{% set n.x = {value} %}}{{% endfor %}}{{% endfor %}}{{{{ n.x|string|length }}}}"
        )
    };
    let mut attacks = vec![
        "{% for a in range(99999) %}{% for b in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}".into(),
        "{{ 'x' * 1000000000 }}".into(),
        "{{ range(100000)|list|string * 1000 }}".into(),
        "{{ '%1000000000d'|format(1) }}{{ 'a\nb'|indent(1000000000) }}".into(),
        "{% macro f(n) %}{{ n|string|length }}{{ f([n, n, n, n]) }}{% endmacro %}{{ f('aaaa') }}".into(),
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}".into(),
        format!("{big}{{{{ x.replace('a', x)|length }}}}"),
        format!("{big}{{{{ x|replace('a', x)|length }}}}"),
        format!("{big}{{% for i in range(9999) %}}{{{{ x.split('a')|length }}}}{{% endfor %}}"),
        format!("{big}{{% set y = {list} %}}{{{{ y|length }}}}"),
        "{% for i in range(9999) %}{% set ns = namespace(a=range(90000)|list, b=range(90000)|list) %}{% endfor %}".into(),
        "{{ [".to_owned() + &"[[[[[".repeat(20_000),
        "{% if a %}".repeat(10_000),
        "{{ a".to_owned() + &".b".repeat(40_000) + " }}",
    ];
    for end in [
        "|string|length",
        " ~ 'a'",
        "|tojson|length",
        "|join(x)|length",
        "|map('upper')|list|length",
        "|sum(start='')",
        "|sort|length",
    ] {
        attacks.push(format!(
            "{big}{{% for i in range(99999) %}}{{{{ {list}{end} }}}}{{% endfor %}}"
        ));
    }
    for (start, value) in [
        ("'aaaaaaaaaaaaaaaa'", "n.x ~ n.x"),
        ("[1]", "n.x + n.x"),
        ("[1]", "[n.x, n.x]"),
        ("[1]", "{'a': n.x, 'b': n.x}"),
        ("'abcdefgh'", "n.x.split('') + [n.x]"),
        ("[1]", "n.x + range(9999)|list"),
    ] {
        attacks.push(in_loop(start, value));
    }
    attacks
}

#[test]
fn templates_stay_within_their_memory() {
    let options = RenderOptions {
        add_generation_prompt: true,
        now_unix_ms: 0,
    };
    let messages = [ChatMessage::new(Role::User, "Hi")];
    let mut most = 0;
    for attack in attacks() {
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let outcome =
            ChatTemplate::new(&attack, "", "").and_then(|template| template.render(&messages, options));
        let peak = MOST.load(Ordering::Relaxed).saturating_sub(before);
        let start: String = attack.chars().take(90).collect();
        println!("{peak:>10} {:?} {start}", outcome.map(|prompt| prompt.len()));
        assert!(peak < LIMIT, "{peak} bytes for {start}");
        most = most.max(peak);
    }
    assert!(most > 1 << 20, "the counting works");
}
