/** `kwaainet bench`, llama.cpp and Python on the same file, one process after the other, in turns. */
import { join } from "node:path";
import { pathOf } from "./cases.mjs";
import { DECODE, FIRST, PREFILL } from "./prompts.mjs";
import { pythonEngines } from "./python.mjs";
import { json } from "./tools.mjs";

const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, "../../target");

function kwaainet(model, threads, prompt, decode, ...more) {
  const size = ["--prompt-tokens", String(prompt), "--decode-tokens", String(decode)];
  const how = ["--threads", String(threads), "--repeat", "1", "--json"];
  return json(join(target, "release/kwaainet"), ["bench", "--model", model, ...size, ...how, ...more]);
}

/** Answers that are made at the same time. */
export const TOGETHER = [1, 2, 4, 8];

/** How fast so many answers are made together, for each of [`TOGETHER`]. */
function together({ model, threads }) {
  const speeds = TOGETHER.map((answers) => {
    const run = kwaainet(model, threads, PREFILL[0], DECODE, "--parallel", String(answers));
    return [`together${answers}`, run.parallel_tokens_per_second ?? run.decode_tokens_per_second];
  });
  return Object.fromEntries(speeds);
}

/** Engines that measure one thing in a process; a process for each then. */
function measured(run, { sizes }) {
  const found = {};
  for (const size of sizes) {
    const one = run(size, DECODE);
    found[`prefill${size}`] = one.prefill_tokens_per_second;
    if (size === PREFILL[0]) {
      found.decode = one.decode_tokens_per_second;
      found.share = one.bandwidth_share && 100 * one.bandwidth_share;
      found.bandwidth = one.memory_bytes_per_second && one.memory_bytes_per_second / 1e9;
    }
    found.memory = Math.max(found.memory ?? 0, one.peak_memory_bytes ?? 0);
    found.backend = one.backend;
  }
  const first = run(FIRST, 1);
  found.warmMs = first.load_ms + first.first_token_ms;
  return found;
}

const engines = {
  kwaainet: (one) => {
    const run = (prompt, decode) => kwaainet(one.model, one.threads, prompt, decode);
    return { ...measured(run, one), ...(one.whole ? together(one) : {}) };
  },
  "llama.cpp": ({ model, threads, ...one }) => {
    const run = (prompt, decode) =>
      json(process.execPath, ["llama.mjs", JSON.stringify({ model, prompt, decode, threads })]);
    return measured(run, one);
  },
};

/** @param {{cases: import("./cases.mjs").Case[], rounds: number, python: boolean, log: (line: string) => void}} options */
export function benchNative({ cases, rounds, python, log }) {
  const all = Object.entries(python ? { ...engines, ...pythonEngines } : engines);
  const none = () => Object.fromEntries(all.map(([engine]) => [engine, []]));
  const results = Object.fromEntries(cases.map(({ title }) => [title, none()]));
  for (let round = 0; round < rounds; round += 1) {
    for (const { title, model, processors, sizes, whole } of cases) {
      for (const [engine, measure] of all) {
        try {
          const found = measure({ model: pathOf(model), threads: processors, sizes, whole });
          log(`  ${title}, ${engine}: ${JSON.stringify(found)}`);
          results[title][engine].push(found);
        } catch (error) {
          log(`  ${title}, ${engine}: failed: ${error.message}`);
          results[title][engine].push({ failed: "failed", why: error.message.split("\n").at(-1) });
        }
      }
    }
  }
  return results;
}
