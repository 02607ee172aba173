//! Fuzz targets: one plain function for everything that reads bytes nobody has checked yet.
//!
//! A target returns when the input was refused or understood, and panics when a promise is broken. cargo-fuzz runs
//! them with coverage (`fuzz_targets/`); `npm run fuzz` runs them on the stable toolchain with a seeded mutator.

pub mod mutate;
pub mod records;
pub mod targets;
pub mod webrtc;

/// A target as the runner knows it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also the name of its corpus folder.
    pub name: &'static str,
    /// Feeds it one input.
    pub run: fn(&[u8]),
    /// Tokens of its format.
    pub words: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "gguf",
        run: targets::gguf,
        words: &[
            b"GGUF",
            b"\x14\0\0\0\0\0\0\0general.architecture",
            b"\x11\0\0\0\0\0\0\0general.alignment\x04\0\0\0",
            b"\x09\0\0\0\x09\0\0\0",
        ],
    },
    Target {
        name: "tokenizer",
        run: targets::tokenizer,
        words: &[
            b"\x01",
            b"\x02",
            b" ",
            b"\n\n",
            b"'s",
            b"1234567",
            "▁".as_bytes(),
            "日本".as_bytes(),
            "\u{301}".as_bytes(),
            "🙂\u{200d}".as_bytes(),
            "\u{a0}".as_bytes(),
            b"<|im_start|>",
            b"</s>",
            b"<0x0A>",
        ],
    },
    Target {
        name: "template",
        run: targets::template,
        words: &[
            b"{{",
            b"}}",
            b"{%",
            b"%}",
            b"for x in ",
            b"endfor",
            b"if ",
            b"endif",
            b"range(999999999)",
            b"|tojson",
            b" * ",
            b"messages",
            b"['content']",
            b"macro f()",
            b"endmacro",
            b"f()",
            b"set x = x ~ x",
            b"namespace(",
            b"|join",
            b"[::-1]",
            b"|trim",
            b"loop.index0",
            b"raise_exception('x')",
            b"strftime_now('%Y')",
            b".split(",
            b"-%}",
        ],
    },
    Target {
        name: "journal",
        run: targets::journal,
        words: &[
            b"KWAAIJ1\n",
            b"\xff\xff\xff\xff",
            b"\"purposes\":[",
            b"\"expiresAtMs\":",
        ],
    },
    Target {
        name: "envelope",
        run: targets::envelope,
        words: &[
            b"\"type\":",
            b"\"resume\":[",
            b"null",
            b"1e999",
            b"\\ud800",
            b"\"v\":1",
            b"{\"chat\":",
        ],
    },
    Target {
        name: "catalogue",
        run: targets::catalogue,
        words: &[
            b"\"chunkHashes\":[",
            b"../",
            b"https://",
            b"\"bytes\":",
            b"\\u0000",
            b"-1",
        ],
    },
    Target {
        name: "grammar",
        run: targets::grammar,
        words: &[
            b"root ::= ",
            b"\nx ::= ",
            b" | ",
            b"(",
            b")",
            b"*",
            b"{2,9}",
            b"[^a-z]",
            b"\"\\x41\"",
            b"root",
            b"\0",
        ],
    },
    Target {
        name: "tools",
        run: targets::tools,
        words: &[
            b"<tool_call>",
            b"</tool_call>",
            b"[TOOL_CALLS]",
            b"{\"name\": \"f\", \"arguments\": {}}",
            b"{\"name\": \"f\", \"parameters\": {}}",
            b"{\"tool_call\": ",
            b"{\"response\": \"",
            b"\\u00e9",
            b"\\",
        ],
    },
    Target {
        name: "schema",
        run: targets::schema,
        words: &[
            b"\"$ref\":\"#\"",
            b"\"anyOf\":[",
            b"\"type\":\"",
            b"\"maxItems\":999999999",
            b"\"minLength\":4000000000",
            b"\"minimum\":-9007199254740991",
            b"{\"items\":",
            b"\"properties\":{",
            b"\"required\":[",
            b"\0",
        ],
    },
    Target {
        name: "record",
        run: records::record,
        words: &[
            b"\x0a\x24\x08\x01\x12\x20",
            b"\x12\x02\x03\x01",
            b"\x12\x12/kwaainet/record/1",
            b"\x2a\x40",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x1a\x0a\x0a\x08\x04\x7f\0\0\x01\x06\x0f\xa1",
            b"\x1a\xff\xff\xff\xff\x0f",
            b"\x09\0\0\0\0\0\0\0\0",
        ],
    },
    Target {
        name: "offer",
        run: records::offer,
        words: &[
            b"\x0a\x20",
            b"\x18\x80\x04",
            b"\x22\x04q4_1",
            b"\x42\x2a\x0a\x26\0\x24\x08\x01\x12\x20",
            b"\x52\x0c/ip4/1.2.3.4",
            b"\xff\xff\xff\xff\x0f",
        ],
    },
    Target {
        name: "exchange",
        run: records::exchange,
        words: &[
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x10\0",
            b"\x10\x01",
            b"\0\0",
            b"\0\x01",
        ],
    },
    Target {
        name: "chunk",
        run: records::chunk,
        words: &[
            b"\0",
            b"\x01\xff",
            b"\x02\0\0\0\x07",
            b"\x03\0\0\0\x01\0\x04\0\0",
            b"\x05\xff\xff\xff\xff",
        ],
    },
    Target {
        name: "bitswap",
        run: records::bitswap,
        words: &[
            b"\x0a\x04\x0a\x02",
            b"\x1a\x06\x0a\x04\x01\x55\x12\x20\x12",
            b"\x22\x26\x0a\x24\x01\x55\x12\x20",
            b"\x20\x01",
            b"\x28\x01",
            b"\x10\x01\x18\x01",
        ],
    },
    Target {
        name: "port",
        run: records::port,
        words: &[
            b"\0\0\0\x01\0",
            b"\0\0\0\0\0\0\0\x01\x02",
            b"\0\0\0\x07\x10",
            b"\0\0\0\x07\x14",
            b"\0\0\0\x02\x05",
            b"/memory/x",
        ],
    },
    Target {
        name: "frame",
        run: webrtc::frame,
        words: &[
            b"\x02\x08\x00",
            b"\x02\x08\x01",
            b"\x02\x08\x02",
            b"\x02\x08\x03",
            b"\x04\x12\x02hi",
            b"\x80\x80\x01",
            b"\xff\x7f",
            b"\x1a\xff\xff\xff\xff\x0f",
        ],
    },
    Target {
        name: "stun",
        run: webrtc::stun,
        words: &[
            b"libp2p+webrtc+v1/",
            b"libp2p+webrtc+v2/",
            b":",
            b"aaaaaaaaaaaaaaaaaaaaaa",
            b"\0\x06\0\x09",
            b"\0\x08\0\x14",
            b"\0\x25\0\0",
            b"\r\na=",
        ],
    },
];
