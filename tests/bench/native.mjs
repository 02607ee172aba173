/** `kwaainet bench` and llama.cpp on the same file, one process after the other, in turns. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathOf } from "./cases.mjs";
import { DECODE, PREFILL } from "./prompts.mjs";

const here = import.meta.dirname;
const root = join(here, "../..");

function json(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: here, encoding: "utf8" });
  if (error || status !== 0) throw new Error(error?.message ?? stderr.trim().slice(-400));
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

const engines = {
  kwaainet: (model, prompt, threads) => {
    const size = ["--prompt-tokens", String(prompt), "--decode-tokens", String(DECODE), "--repeat", "1"];
    const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
    return json(join(target, "release/kwaainet"), [
      "bench",
      "--model",
      model,
      ...size,
      "--threads",
      String(threads),
      "--json",
    ]);
  },
  "llama.cpp": (model, prompt, threads) =>
    json(process.execPath, ["llama.mjs", JSON.stringify({ model, prompt, decode: DECODE, threads })]),
};

/** @param {{cases: import("./cases.mjs").Case[], rounds: number, log: (line: string) => void}} options */
export function benchNative({ cases, rounds, log }) {
  const none = () => Object.fromEntries(Object.keys(engines).map((engine) => [engine, []]));
  const results = Object.fromEntries(cases.map(({ title }) => [title, none()]));
  for (let round = 0; round < rounds; round += 1) {
    for (const { title, model, processors, sizes } of cases) {
      for (const [engine, measure] of Object.entries(engines)) {
        const measured = {};
        try {
          for (const size of sizes) {
            const run = measure(pathOf(model), size, processors);
            measured[`prefill${size}`] = run.prefill_tokens_per_second;
            if (size === PREFILL[0]) {
              measured.decode = run.decode_tokens_per_second;
              measured.warmMs = run.load_ms + run.first_token_ms;
            }
            measured.memory = Math.max(measured.memory ?? 0, run.peak_memory_bytes ?? 0);
          }
        } catch (error) {
          log(`  ${title}, ${engine}: failed: ${error.message}`);
          continue;
        }
        log(`  ${title}, ${engine}: ${JSON.stringify(measured)}`);
        results[title][engine].push(measured);
      }
    }
  }
  return results;
}
