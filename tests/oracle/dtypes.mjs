// Every format on a real model: one is made of SmolLM2's weights, and both engines are compared with llama.cpp on the same
// numbers as floats. (Beside each other they cannot agree to four nines: both round activations to 8 bits.)
import { rmSync } from "node:fs";
import { join } from "node:path";
import { LlamaModel } from "./lib/llama.mjs";
import { FORMATS, quantise } from "./lib/quantise.mjs";
import { requantise } from "./lib/requantise.mjs";
import { compare, measure, noFurther, questions, report } from "./numbers.mjs";

const WHOLE = { prompts: 50, continuations: 4, greedy: 32, prose: 384 };
/** For every run: enough to see that a format is read wrongly. */
const REDUCED = { prompts: 8, continuations: 2, greedy: 8, prose: 120 };

/** Of what can be made, 32-bit floats are not compared: they are the judge, and `numbers` compares them. */
export const COMPARED = FORMATS.filter((format) => format !== "F32");

/** What is demanded where llama.cpp itself keeps to it. */
const DEMANDED = { mean: 0.9995, likeliest: 99, off: 0.003 };
const HALVES = { ...DEMANDED, lowest: DEMANDED.mean, greedy: 90 };

async function withModel(load, path, ask) {
  const model = await load(path);
  try {
    return await ask(model);
  } finally {
    await model.close();
  }
}

const percent = (part) => `${(100 * part).toFixed(3)} %`;
const row = ({ mean, lowest, likeliest, prompts, greedy, continuations, off }) =>
  `${mean.toFixed(6)} | ${lowest.toFixed(6)} | ${likeliest} of ${prompts} | ` +
  `${greedy} of ${continuations} | ${percent(off)}`;

/** Prints what is in the table of docs/decisions/0005, besides the usual lines. */
export async function checkDtypes(llama, path, probe, scratch, formats) {
  const isWhole = formats !== null;
  const load = (file) => LlamaModel.load(llama, file);
  const floats = join(scratch, "floats.gguf");
  const made = join(scratch, "made.gguf");
  const exact = join(scratch, "exact.gguf");
  requantise(path, floats);
  for (const format of formats ?? ["Q4_K"]) {
    const share = await quantise(probe, floats, made, format);
    let asked;
    const theirs = await withModel(load, made, (model) => {
      asked = questions(model, isWhole ? WHOLE : REDUCED);
      return measure(model, asked);
    });
    await probe.load(made);
    const ours = await measure(probe, asked);
    requantise(made, exact);
    const reference = await withModel(load, exact, (model) => measure(model, asked));
    const [harm, harmOfTheirs] = [compare(ours, reference), compare(theirs, reference)];
    // For F16 activations keep 11 bits: nothing excuses a difference.
    const limits = format === "F16" ? HALVES : noFurther(harm, harmOfTheirs, DEMANDED);
    report(`SmolLM2 ${format}`, harm, limits);
    const name = share === 1 ? format : `${format} (${Math.round(100 * share)} %)`;
    const lines = [
      `| ${name} | this engine and the exact weights | ${row(harm)} |`,
      `| | llama.cpp and the exact weights | ${row(harmOfTheirs)} |`,
      `| | this engine and llama.cpp | ${row(compare(ours, theirs))} |`,
    ];
    console.log(`${lines.join("\n")}\n`);
  }
  for (const file of [floats, made, exact]) rmSync(file);
}
