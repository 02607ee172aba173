/** One measurement of llama.cpp (node-llama-cpp, prebuilt, processor only) in a process of its own; prints JSON. */
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const { model: file, prompt, decode, threads } = JSON.parse(process.argv[2]);
const llama = await getLlama({
  gpu: false,
  build: "never",
  logLevel: LlamaLogLevel.error,
  maxThreads: threads,
});
const began = performance.now();
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 2048, batchSize: 512, threads });
const sequence = context.getSequence();
const loadMs = performance.now() - began;
const text =
  "The river carries what the mountain lets go: sand, leaves, the colour of clay, and in spring the cold. ";
const tokens = model.tokenize(text.repeat(60)).slice(0, prompt);

const start = performance.now();
let first = 0;
let count = 0;
let last = 0;
for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
  last = performance.now();
  first ||= last;
  count += 1;
  if (count > decode) break;
}
// What it was built for, and uses: it picks the best of its builds for the processor it finds.
const features = [...llama.systemInfo.matchAll(/(\w+) = 1/g)].map(([, name]) => name);
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
console.log(
  JSON.stringify({
    prefill_tokens_per_second: (tokens.length * 1000) / (first - start),
    decode_tokens_per_second: ((count - 1) * 1000) / (last - first),
    load_ms: loadMs,
    first_token_ms: first - start,
    peak_memory_bytes: Number(peak) * 1024,
    backend: `${llama.llamaCppRelease.release}, ${features.join(" ")}`,
  }),
);
process.exit(0);
