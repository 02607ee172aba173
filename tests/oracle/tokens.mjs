// Token ids: the texts of fixtures/texts.json on real vocabularies, and every pre-tokenizer on one of them.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vocabularyOf } from "./lib/gguf.mjs";
import { LlamaModel } from "./lib/llama.mjs";
import { record, same } from "./lib/table.mjs";

export const texts = JSON.parse(readFileSync(new URL("fixtures/texts.json", import.meta.url), "utf8"));

/** Pre-tokenizers that llama.cpp knows too; `qwen2` and its kind stand for their aliases. */
const PRES = [
  "command-r",
  "dbrx",
  "deepseek-coder",
  "deepseek-r1-qwen",
  "deepseek-v3",
  "default",
  "falcon",
  "falcon3",
  "gpt-2",
  "gpt-4o",
  "llama-bpe",
  "llama4",
  "minerva-7b",
  "mpt",
  "olmo",
  "phi-2",
  "qwen2",
  "qwen35",
  "refact",
  "smaug-bpe",
  "smollm",
  "stablelm2",
  "starcoder",
  "tekken",
  "trillion",
];

async function compare(name, model, probe, few = texts) {
  let equal = 0;
  let total = 0;
  for (const text of few) {
    for (const parseSpecial of [true, false]) {
      const { tokens } = await probe.ask({ op: "tokenize", text, parse_special: parseSpecial });
      const expected = model.tokenize(text, parseSpecial);
      total += 1;
      if (same(tokens, expected)) equal += 1;
      else if (total - equal < 4)
        console.log("      differs:", JSON.stringify(text), tokens.join(), expected.join());
    }
  }
  record(`${name}: token ids`, `${equal} of ${total} equal`, "all", equal === total);
}

/** On a loaded model. */
export async function checkTokens(name, model, probe, loaded) {
  await compare(name, model, probe);
  const ends = model.ends(loaded.tokens);
  record(`${name}: tokens that end an answer`, loaded.ends.join(), ends.join(), same(loaded.ends, ends));
  const adds = loaded.adds_bos ? [loaded.bos] : [];
  record(`${name}: beginning of text`, `[${adds}]`, `[${model.prefix()}]`, same(adds, model.prefix()));
}

/** Every pre-tokenizer, on the vocabulary of a byte-level BPE model. */
export async function checkPreTokenizers(llama, probe, modelPath) {
  const bytes = readFileSync(modelPath);
  for (const pre of PRES) {
    const path = join(tmpdir(), `kwaainet-oracle-${process.pid}-${pre}.gguf`);
    writeFileSync(path, vocabularyOf(bytes, { "tokenizer.ggml.pre": pre }));
    try {
      const loaded = await probe.ask({ op: "load_vocabulary", path });
      if (loaded.error) throw new Error(loaded.error);
      const model = await LlamaModel.load(llama, path, { vocabOnly: true });
      await compare(`pre-tokenizer ${pre}`, model, probe);
      await model.close();
    } finally {
      rmSync(path, { force: true });
    }
  }
}
