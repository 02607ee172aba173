// Writes sdk-core/engine/tests/golden/tokenizer.json: two small vocabularies, and llama.cpp's token ids of the
// texts in fixtures/texts.json for them, so that `cargo test` checks the tokenizer without llama.cpp.
//
//   node golden.mjs
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeKeys } from "./lib/gguf.mjs";
import { LlamaModel, openLlama } from "./lib/llama.mjs";
import { texts } from "./tokens.mjs";

const PRES = [
  "deepseek-coder",
  "deepseek-v3",
  "default",
  "falcon",
  "gpt-2",
  "gpt-4o",
  "llama-bpe",
  "qwen2",
  "qwen35",
  "smollm",
  "tekken",
];
const MERGES = 1200;

/** GPT-2's printable character of each byte. */
function byteAlphabet() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

/** Merges learned from the texts without cutting them into words: then a wrong cut changes the ids. */
function learn(alphabet, count) {
  const encode = (text) => [...Buffer.from(text, "utf8")].map((byte) => alphabet[byte]);
  const sequences = texts.map(encode);
  const merges = [];
  while (merges.length < count) {
    const pairs = new Map();
    for (const sequence of sequences) {
      for (let i = 0; i + 1 < sequence.length; i += 1) {
        const pair = `${sequence[i]} ${sequence[i + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...pairs].reduce((a, b) => (b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a));
    merges.push(best);
    const [left, right] = best.split(" ");
    for (const sequence of sequences) {
      for (let i = 0; i + 1 < sequence.length; i += 1) {
        if (sequence[i] === left && sequence[i + 1] === right) sequence.splice(i, 2, left + right);
      }
    }
  }
  return merges;
}

const alphabet = byteAlphabet();
const merges = learn(alphabet, MERGES);
const special = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<start_of_turn>",
  "<end_of_turn>",
  "<bos>",
  "<unused0>",
];
const taken = new Set([...special, ...alphabet]);
const joined = [...new Set(merges.map((merge) => merge.replace(" ", "")))].filter(
  (token) => !taken.has(token),
);
const bpe = {
  tokens: [...special, ...alphabet, ...joined],
  types: [...special.map(() => 3), ...alphabet.map(() => 1), ...joined.map(() => 1)],
  merges,
};

// The same pieces as SentencePiece would hold them: text with ▁ for a space, where they are whole characters.
const byteOf = new Map(alphabet.map((character, byte) => [character, byte]));
const decoder = new TextDecoder("utf-8", { fatal: true });
const pieces = [];
for (const token of joined) {
  try {
    pieces.push(decoder.decode(Uint8Array.from([...token].map((c) => byteOf.get(c)))).replaceAll(" ", "▁"));
  } catch {
    // part of a character
  }
}
const characters = [
  ...new Set([...pieces.join(""), ..."▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]),
];
const bytes = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
const spmSpecial = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>"];
const multi = [...new Set(pieces)].filter((piece) => [...piece].length > 1 && !spmSpecial.includes(piece));
const spm = {
  tokens: [...spmSpecial, ...bytes, ...multi, ...characters.filter((c) => !multi.includes(c))],
  types: [2, 3, 3, 4, 3, 3, ...bytes.map(() => 6)],
  scores: [],
};
spm.tokens.forEach((_, id) => {
  if (id >= spm.types.length) spm.types.push(1);
  spm.scores.push(id < spmSpecial.length + bytes.length ? 0 : spmSpecial.length + bytes.length - id);
});

/** FNV-1a, 64 bits, over the ids as decimal numbers with a comma behind each. */
function digest(ids) {
  let hash = 0xcbf29ce484222325n;
  for (const character of ids.map((id) => `${id},`).join("")) {
    hash = ((hash ^ BigInt(character.charCodeAt(0))) * 0x100000001b3n) & 0xffffffffffffffffn;
  }
  return `${ids.length}:${hash.toString(16).padStart(16, "0")}`;
}

const common = {
  "general.architecture": "llama",
  "llama.block_count": { u32: 1 },
  "llama.context_length": { u32: 64 },
  "llama.embedding_length": { u32: 32 },
  "llama.feed_forward_length": { u32: 32 },
  "llama.attention.head_count": { u32: 1 },
  "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
};
const llama = await openLlama();
const cases = [];
for (const pre of [...PRES, "llama (SPM)", "llama (SPM) without space prefix"]) {
  const isSpm = pre.startsWith("llama (SPM)");
  const path = join(tmpdir(), `kwaainet-golden-${process.pid}.gguf`);
  const keys = isSpm
    ? {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": { f32s: spm.scores },
        "tokenizer.ggml.add_space_prefix": !pre.includes("without"),
      }
    : {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.merges": { texts: bpe.merges },
      };
  const vocabulary = isSpm ? spm : bpe;
  writeFileSync(
    path,
    writeKeys({
      ...common,
      ...keys,
      "tokenizer.ggml.tokens": { texts: vocabulary.tokens },
      "tokenizer.ggml.token_type": { i32s: vocabulary.types },
      "tokenizer.ggml.bos_token_id": { u32: isSpm ? 1 : 0 },
      "tokenizer.ggml.eos_token_id": { u32: isSpm ? 2 : 0 },
    }),
  );
  const model = await LlamaModel.load(llama, path, { vocabOnly: true });
  cases.push({
    name: pre,
    prefix: model.prefix(),
    ends: model.ends(vocabulary.tokens.length),
    special: texts.map((text) => digest(model.tokenize(text, true))),
    plain: texts.map((text) => digest(model.tokenize(text, false))),
  });
  await model.close();
  rmSync(path);
}
const target = new URL("../../sdk-core/engine/tests/golden/tokenizer.json", import.meta.url);
writeFileSync(target, `${JSON.stringify({ bpe, spm, cases })}\n`);
console.log(`${cases.length} tokenizers, ${texts.length} texts each`);
await llama.dispose();
