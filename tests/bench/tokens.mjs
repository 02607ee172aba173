/** Tokens of texts, by llama.cpp's tokenizer, for engines that get no text: `node tokens.mjs {model, texts}` prints JSON. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** @returns {number[][]} */
export function tokensOf(model, texts) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [fileURLToPath(import.meta.url), JSON.stringify({ model, texts })],
    { cwd: join(import.meta.dirname), encoding: "utf8", maxBuffer: 64 << 20 },
  );
  if (status !== 0) throw new Error(`no tokens: ${stderr.trim().slice(-400)}`);
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
  const { model: modelPath, texts } = JSON.parse(process.argv[2]);
  const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath, vocabOnly: true });
  console.log(JSON.stringify(texts.map((text) => model.tokenize(text, true))));
  process.exit(0);
}
