/**
 * Writes the seeds of the corpus: small inputs that reach deep into each reader. Findings are added to the same
 * folders by hand. Run: node tests/fuzz/corpus.mjs
 */
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

function write(target, name, content) {
  mkdirSync(join(here, "corpus", target), { recursive: true });
  writeFileSync(join(here, "corpus", target, name), content);
}

// --- GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

const types = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};

function number(kind, value) {
  const buffer = Buffer.alloc(
    { u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8 }[kind],
  );
  const method = {
    u8: "writeUInt8",
    bool: "writeUInt8",
    i8: "writeInt8",
    u16: "writeUInt16LE",
    i16: "writeInt16LE",
    u32: "writeUInt32LE",
    i32: "writeInt32LE",
    f32: "writeFloatLE",
    u64: "writeBigUInt64LE",
    i64: "writeBigInt64LE",
    f64: "writeDoubleLE",
  }[kind];
  buffer[method](kind === "u64" || kind === "i64" ? BigInt(value) : Number(value));
  return buffer;
}
const text = (value) => Buffer.concat([number("u64", Buffer.byteLength(value)), Buffer.from(value)]);

function value(kind, content) {
  if (kind === "string") return text(content);
  if (kind !== "array") return number(kind, content);
  const [inner, items] = content;
  return Buffer.concat([
    number("u32", types[inner]),
    number("u64", items.length),
    ...items.map((item) => value(inner, item)),
  ]);
}

/** @param {{version?: number, keys?: [string, string, unknown][], tensors?: [string, number[], number?][]}} file */
function gguf({ version = 3, keys = [], tensors = [], alignment = 32 }) {
  const parts = [
    Buffer.from("GGUF"),
    number("u32", version),
    number("u64", tensors.length),
    number("u64", keys.length),
  ];
  for (const [key, kind, content] of keys)
    parts.push(text(key), number("u32", types[kind]), value(kind, content));
  let offset = 0;
  for (const [name, shape, type = 0] of tensors) {
    parts.push(
      text(name),
      number("u32", shape.length),
      ...shape.map((size) => number("u64", size)),
      number("u32", type),
      number("u64", offset),
    );
    // Only F32 here: four bytes each.
    offset += Math.ceil((shape.reduce((a, b) => a * b, 1) * 4) / alignment) * alignment;
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([
    header,
    Buffer.alloc((alignment - (header.length % alignment)) % alignment),
    Buffer.alloc(offset, 1),
  ]);
}

const words = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "▁the", "h", "he"];
function model(architecture, more = { keys: [], tensors: [] }) {
  const of = (name, kind, content) => [`${architecture}.${name}`, kind, content];
  const layer = (name, shape) => [`blk.0.${name}.weight`, shape];
  return {
    keys: [
      ["general.architecture", "string", architecture],
      ["general.name", "string", "tiny"],
      of("block_count", "u32", 1),
      of("context_length", "u32", 64),
      of("embedding_length", "u32", 4),
      of("feed_forward_length", "u32", 8),
      of("attention.head_count", "u32", 2),
      of("attention.head_count_kv", "u32", 1),
      of("attention.layer_norm_rms_epsilon", "f32", 1e-5),
      of("rope.freq_base", "f32", 10000),
      ["tokenizer.ggml.model", "string", "llama"],
      ["tokenizer.ggml.tokens", "array", ["string", words]],
      ["tokenizer.ggml.scores", "array", ["f32", words.map((_, at) => -at)]],
      ["tokenizer.ggml.token_type", "array", ["i32", [2, 3, 3, 6, 1, 1, 1, 1]]],
      ["tokenizer.chat_template", "string", "{% for m in messages %}{{ m.content }}{% endfor %}"],
      ...more.keys,
    ],
    tensors: [
      ["token_embd.weight", [4, 8]],
      ["output_norm.weight", [4]],
      layer("attn_norm", [4]),
      layer("attn_q", [4, 4]),
      layer("attn_k", [4, 2]),
      layer("attn_v", [4, 2]),
      layer("attn_output", [4, 4]),
      layer("ffn_norm", [4]),
      layer("ffn_gate", [4, 8]),
      layer("ffn_up", [4, 8]),
      layer("ffn_down", [8, 4]),
      ...more.tensors,
    ],
  };
}
const qkNorms = {
  keys: [],
  tensors: [
    ["blk.0.attn_q_norm.weight", [2]],
    ["blk.0.attn_k_norm.weight", [2]],
    ["blk.0.post_attention_norm.weight", [4]],
    ["blk.0.post_ffw_norm.weight", [4]],
  ],
};
write("gguf", "llama", gguf(model("llama")));
write("gguf", "qwen3", gguf(model("qwen3", qkNorms)));
write("gguf", "gemma3", gguf(model("gemma3", qkNorms)));
write("gguf", "version-2", gguf({ ...model("llama"), version: 2 }));
write("gguf", "empty", gguf({}));
write(
  "gguf",
  "alignment-64",
  gguf({ ...model("llama", { keys: [["general.alignment", "u32", 64]], tensors: [] }), alignment: 64 }),
);
write(
  "gguf",
  "every-type",
  gguf({
    keys: [
      ...["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64", "f64"].map((kind) => [
        `a.${kind}`,
        kind,
        1,
      ]),
      ["a.string", "string", "ö"],
      ["a.array", "array", ["u16", [1, 2, 3]]],
      [
        "a.nested",
        "array",
        [
          "array",
          [
            ["u8", [1]],
            ["u8", [2, 3]],
          ],
        ],
      ],
      ["a.nothing", "array", ["string", []]],
    ],
    tensors: [["a", [32, 2, 1, 1]]],
  }),
);

// --- Protocol, one message of each kind

const envelopes = {
  hello: { kind: "hello" },
  cancel: { kind: "cancel" },
  welcome: { kind: "welcome", body: { protocol: 1, version: "0.1.0", epoch: "a" } },
  configure: {
    kind: "command",
    body: {
      type: "configure",
      config: {
        services: ["compute", "storage"],
        privacyCompliance: ["gdpr"],
        maxResources: { cpu: 20, memory: 512, storage: 5000 },
        rewardSplit: [70, 30],
        model: "m",
        contextLength: 2048,
      },
    },
  },
  grant: {
    kind: "command",
    body: {
      type: "grant",
      record: {
        receiptId: "r",
        purposes: ["runAi", "keepModel"],
        noticeDigest: "ab".repeat(32),
        language: "en",
        grantedAtMs: 1,
        expiresAtMs: 2,
      },
    },
  },
  chat: {
    kind: "command",
    body: {
      type: "chat",
      request: {
        model: "m",
        messages: [
          { role: "system", content: "Be brief." },
          { role: "user", content: [{ type: "text", text: "Hé\u2028\ud83d\ude00" }] },
        ],
        temperature: 0.7,
        top_k: 40,
        top_p: 0.9,
        seed: 7,
        max_tokens: 16,
        stop: ["\n"],
        n: 1,
        stream: true,
      },
      resume: [1, 2, 4294967295],
    },
  },
  delta: { kind: "chunk", body: { type: "delta", delta: { text: "a", tokens: [1] } } },
  progress: {
    kind: "chunk",
    body: {
      type: "progress",
      progress: {
        model: "m",
        stage: "fetch",
        done: 1,
        total: 98362432,
        fromPeers: 1,
        peers: 1,
        bytesPerSecond: 1.5,
      },
    },
  },
  error: { kind: "error", body: { code: "busy", message: "later", retryable: true } },
  event: { kind: "event", body: { type: "consentChanged", purposes: ["runAi"] } },
};
for (const [name, message] of Object.entries(envelopes))
  write("envelope", name, JSON.stringify({ v: 1, id: 7, ...message }));

// --- Catalogue

const entry = {
  id: "smollm2-135m-instruct-q4_1",
  name: "SmolLM2 135M Instruct",
  architecture: "llama",
  quantisation: "Q4_1",
  bytes: 1500000,
  licence: "Apache-2.0",
  contextLength: 8192,
  smallestTier: "T1",
  cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
  chunkHashes: ["ab".repeat(32), "cd".repeat(32)],
  sources: ["models/smollm2.gguf", "https://models.example/smollm2.gguf"],
};
const catalogue = { version: 1, edition: 3, gateways: ["https://ipfs.example/ipfs/"], models: [entry] };
write("catalogue", "one-model", JSON.stringify(catalogue));
write("catalogue", "no-models", JSON.stringify({ ...catalogue, models: [], gateways: [] }));
write(
  "catalogue",
  "signed",
  JSON.stringify({ catalogue: JSON.stringify(catalogue), signature: "00".repeat(64), key: "00".repeat(32) }),
);

// --- Tokenizer: first byte chooses what the rest is (tests/fuzz/src/targets.rs)

const sentences = [
  "Hello, world! It's 12345 o'clock\n\n\tx",
  "naïve 日本語 中文 العربية 🙂‍↔️ e\u0301 \u00a0 ",
  "<s>[INST] <|im_start|>system</s> <0x0A>",
  "    if (x) {\r\n        return '\\u0000';\r\n    }",
];
sentences.forEach((sentence, at) => {
  write("tokenizer", `bpe-${at}`, `b${sentence}`);
  write("tokenizer", `spm-${at}`, `s${sentence}`);
});
const vocabulary = ["a", "b", "ab", "abc", "Ġ", "Ġa", "<|x|>", "c"];
write(
  "tokenizer",
  "vocabulary-bpe",
  ["vgpt2", "llama-bpe", vocabulary.join("\u0001"), "a b\u0001ab c", "abc ab a<|x|>"].join("\u0002"),
);
write("tokenizer", "vocabulary-spm", ["vllama", "", words.join("\u0001"), "", "the he h"].join("\u0002"));

// --- Chat templates

const templates = {
  chatml:
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  gemma:
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}{{ '<start_of_turn>' + message['role'] + '\n' + (first if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}{%- endfor -%}",
  namespace:
    "{% set ns = namespace(a=false) %}{% macro m(x, y=1) %}{{ x|upper }}{{ y }}{% endmacro %}{% for k in messages if k.role != 'system' %}{% set ns.a = loop.last %}{{ m(k.content, y=loop.index) }}{% endfor %}{{ ns.a|tojson }}{{ strftime_now('%Y') }}",
  long: "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}",
  large:
    "{% set s = 'x' * 1000 %}{% for a in range(60) %}{% set s = s ~ s %}{% endfor %}{{ s }}{{ 'y' * 999999999 }}",
  deep: "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
};
for (const [name, source] of Object.entries(templates)) write("template", name, source);

// --- What an earlier visit left: the journal of a model of 1 MiB and 5 bytes (DEPLOYMENT in targets.rs), and consent

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256"));
const hashes = [Buffer.alloc(1 << 20, 7), Buffer.alloc(5, 7)].map((bytes) => sha256(bytes).digest("hex"));
const digest = sha256(number("u64", (1 << 20) + 5), ...hashes).digest();
const journal = (bits) =>
  Buffer.concat([Buffer.from("jKWAAIJ1\n"), digest, number("u64", 3), Buffer.from([bits])]);
write("journal", "nothing-verified", journal(0));
write("journal", "all-verified", journal(3));
write("journal", "more-than-all", journal(255));
const consent = {
  receiptId: "r",
  purposes: ["runAi", "keepModel"],
  noticeDigest: "ab".repeat(32),
  language: "en",
  grantedAtMs: 0,
  expiresAtMs: 1e9,
};
write("journal", "consent", `c${JSON.stringify(consent)}`);

// --- grammars: rules or a schema, and behind a zero a text to be judged

write("grammar", "list", 'root ::= item ("," item)*\nitem ::= [a-c]{2,3} | "\\x41"\0ab,abc,A');
write("grammar", "nested", 'root ::= "(" root* ")" # balanced\0(()(()))');
write("grammar", "ambiguous", 'root ::= "a" root "x" | "a" root "y" | "b"\0aaaaaaaab');
write("grammar", "repeated", 'root ::= (("ab"{100}) "c"){100} .?\0abab');
write("grammar", "left-recursion", 'root ::= a? root "x" | "b"\na ::= "y"\0bx');

// --- what a model wrote: notation, length of the pieces, text

const call = '{"name": "f", "arguments": {"a": "\\u00e9{"}}';
write(
  "tools",
  "hermes",
  `\0\x03Well \n<tool_call>\n${call}\n</tool_call>\n<tool_call>\n${call}\n</tool_call>`,
);
write("tools", "llama", `\x01\x02${call.replace("arguments", "parameters")}`);
write("tools", "mistral", `\x02\x05So [TOOL_CALLS] [${call}, ${call}]`);
write("tools", "generic-call", `\x03\x01{"tool_call": ${call}}`);
write("tools", "generic-answer", `\x03\x04{"response": "a\\"b\\\\\\u00e9\\n"}`);

const person = {
  type: "object",
  properties: { name: { type: "string", maxLength: 9 }, age: { type: "integer", minimum: 0, maximum: 150 } },
  required: ["name"],
  additionalProperties: false,
};
write("schema", "object", `${JSON.stringify(person)}\0{"name":"Ada","age":36}`);
write("schema", "lists-in-lists", `${'{"type":"array","items":'.repeat(60)}{}${"}".repeat(60)}\0[[[1]]]`);
const tree = { anyOf: [{ type: "null" }, { type: "array", items: { $ref: "#" }, maxItems: 4 }] };
write("schema", "recursive", `${JSON.stringify(tree)}\0[null,[[],null]]`);
const mixed = {
  type: ["number", "string", "boolean"],
  format: "date-time",
  minimum: -2.5,
  oneOf: [{ const: 1 }, { enum: ["a", null, [2]] }],
};
write("schema", "mixed", `${JSON.stringify(mixed)}\0"2024-02-29T12:00:00Z"`);
write("schema", "free", `{"items":{"prefixItems":[{},{"type":"object"}],"minItems":2}}\0[[1,{"a":[]}]]`);

// --- signed records, and what may be in them: `e` and an envelope, `r` and the payload of a record, `p` of addresses

const varint = (number) => {
  const bytes = [];
  let left = BigInt(number);
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128);
  return Buffer.from([...bytes, Number(left)]);
};
const numbered = (field, number) => Buffer.concat([varint(field << 3), varint(number)]);
const prefixed = (bytes) => Buffer.concat([varint(bytes.length), bytes]);
const held = (field, content) => Buffer.concat([varint((field << 3) | 2), prefixed(Buffer.from(content))]);

/** An Ed25519 key from the seed 07…07; the sixteen bytes before a seed are PKCS #8 (RFC 8410). */
const secret = createPrivateKey({
  key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, 7)]),
  format: "der",
  type: "pkcs8",
});
const ed25519 = createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(-32);
const publicKey = Buffer.concat([Buffer.from("08011220", "hex"), ed25519]);
const peerId = Buffer.concat([Buffer.from([0, 36]), publicKey]);
function sealed(domain, type, payload) {
  const parts = [Buffer.from(domain), Buffer.from(type), payload];
  const signature = sign(null, Buffer.concat(parts.map(prefixed)), secret);
  return Buffer.concat([held(1, publicKey), held(2, type), held(3, payload), held(5, signature)]);
}

const span = Buffer.concat([
  held(1, Buffer.alloc(32, 9)),
  numbered(2, 16),
  numbered(3, 32),
  held(4, "q4_1"),
  numbered(5, 40_000),
  numbered(6, 300_000),
  numbered(7, 4096),
  held(8, Buffer.concat([held(1, peerId), numbered(2, 20)])),
  held(9, "kwaainet/0.1.0"),
  held(10, "/ip4/192.0.2.1/tcp/4001"),
]);
const dated = Buffer.concat([numbered(1, 5), numbered(2, 1_700_000_100_000), held(3, span)]);
const loopback = held(3, held(1, [4, 127, 0, 0, 1, 6, 0x0f, 0xa1]));
const reachable = Buffer.concat([held(1, peerId), numbered(2, 2n ** 64n - 1n), loopback, loopback]);
const behind = (kind, bytes) => Buffer.concat([Buffer.from(kind), bytes]);
write("record", "record", behind("e", sealed("kwaainet-record", "/kwaainet/record/1", dated)));
write("record", "peer-record", behind("e", sealed("libp2p-peer-record", Buffer.from([3, 1]), reachable)));
write("record", "record-payload", behind("r", dated));
write("record", "peer-record-payload", behind("p", reachable));
write("offer", "span", span);
write(
  "offer",
  "chunks",
  Buffer.concat([held(1, Buffer.alloc(32, 9)), held(10, "/dns4/a.example/tcp/443/wss")]),
);
write("exchange", "store", Buffer.concat([Buffer.from([1]), Buffer.alloc(32, 9), dated]));
write("exchange", "find", Buffer.concat([Buffer.from([2]), Buffer.alloc(32, 9), Buffer.from([20])]));
write("exchange", "refused", Buffer.from("\u0002there is no room"));
write("exchange", "found", Buffer.concat([Buffer.from([3, 0, 3]), Buffer.from("abc"), Buffer.from([0, 0])]));

// --- The messages of /kwaainet/chunk/1: a tag, numbers in big endian, the rest.

write("chunk", "ask", Buffer.concat([Buffer.from([0]), Buffer.alloc(32, 5)]));
write("chunk", "have", Buffer.from([1, 0xff, 0x0f]));
write("chunk", "want", Buffer.from([2, 0, 0, 0, 7]));
write("chunk", "frame", Buffer.concat([Buffer.from([3, 0, 0, 0, 7, 0, 4, 0, 0]), Buffer.alloc(64, 9)]));

// --- Messages of bitswap 1.2.0: wants, a block, presences.

const leaf = Buffer.concat([Buffer.from([0x01, 0x55, 0x12, 0x20]), Buffer.alloc(32, 7)]);
const wanting = (...more) => held(1, Buffer.concat([held(1, leaf), numbered(2, 1), ...more]));
const wantlist = [wanting(numbered(5, 1)), wanting(numbered(4, 1)), wanting(numbered(3, 1)), numbered(2, 1)];
write("bitswap", "wants", held(1, Buffer.concat(wantlist)));
const block = held(3, Buffer.concat([held(1, leaf.subarray(0, 4)), held(2, Buffer.alloc(64, 9))]));
write("bitswap", "blocks", Buffer.concat([block, block, numbered(5, 1 << 20)]));
const present = held(4, held(1, leaf));
write(
  "bitswap",
  "presences",
  Buffer.concat([present, held(4, Buffer.concat([held(1, leaf), numbered(2, 1)]))]),
);

// --- The messages of the port between node and network: read from their end, where the tag is.

const toHost = (...parts) => Buffer.concat([Buffer.from([0]), ...parts.map((part) => Buffer.from(part))]);
const toNode = (...parts) => Buffer.concat([Buffer.from([1]), ...parts.map((part) => Buffer.from(part))]);
const portText = (text) => Buffer.concat([Buffer.from(text), Buffer.from([0, 0, 0, text.length])]);
write(
  "port",
  "dial",
  toHost(portText("/ip4/1.2.3.4/tcp/5/ws"), [0, 0, 0, 1], Buffer.alloc(32, 7), [0, 0, 0, 1, 0]),
);
write(
  "port",
  "open",
  toHost(portText("/a/1"), [0, 0, 4, 0, 0, 0, 0, 2], Buffer.alloc(32, 7), [0, 0, 0, 1, 1]),
);
write("port", "data", toHost("hello", [0, 0, 0, 2, 16]));
write("port", "credit", toNode([0, 0, 1, 0, 0, 0, 0, 2, 17]));
write("port", "broken", toNode(portText("gone"), [2, 0, 0, 0, 2, 20]));
write("port", "failed", toNode(portText("no"), [0, 0, 0, 0, 3, 5]));
write(
  "port",
  "peers",
  toNode(portText("/memory/x"), Buffer.alloc(16, 1), Buffer.alloc(32, 7), [0, 0, 0, 0, 1, 2]),
);

// --- WebRTC: libp2p/specs webrtc/README.md (frames behind the size of the pieces), RFC 8489 (attributes, a username)

const frames = Buffer.from("0412026869" + "020800" + "0c08001a029601120403020100" + "020803", "hex");
write("frame", "several", Buffer.concat([Buffer.from([2]), frames]));
write("frame", "long", Buffer.concat([Buffer.from([255]), Buffer.from("84800112808001", "hex")]));
write("frame", "half", Buffer.from([0, 0x80, 0x40, 0x12, 0xfc, 0x3f]));

const password = "abcdefghijklmnopqrstuvwx";
const username = `libp2p+webrtc+v2/${password}:dial`;
write("stun", "v1", `libp2p+webrtc+v1/${password}:libp2p+webrtc+v1/${password}`);
write("stun", "v2", username);
const attribute = (type, content) => {
  const padded = Buffer.alloc(4 + Math.ceil(content.length / 4) * 4);
  padded.writeUInt16BE(type, 0);
  padded.writeUInt16BE(content.length, 2);
  Buffer.from(content).copy(padded, 4);
  return padded;
};
write(
  "stun",
  "attributes",
  Buffer.concat([
    attribute(0x0006, Buffer.from(username)),
    attribute(0x0024, Buffer.from("6e7f00ff", "hex")),
    attribute(0x802a, Buffer.alloc(8, 1)),
    attribute(0x0025, Buffer.alloc(0)),
    attribute(0x0008, Buffer.alloc(20, 2)),
  ]),
);
