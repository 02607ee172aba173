/** What is measured: models in the formats people use, on one processor and on all. */
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { requantise, targets } from "../oracle/lib/requantise.mjs";
import { PREFILL } from "./prompts.mjs";

/**
 * @typedef {{id: string, file: string, name: string, licence: string}} Model
 * @typedef {{title: string, model: Model, processors: number, sizes: number[], whole?: boolean}} Case `whole`: also what
 * a visitor downloads and what the page pays
 */

const folder = join(import.meta.dirname, "../../.cache/models");
export const pathOf = ({ file }) => join(folder, file);

const model = (id, name, licence) => ({ id, file: `${id}.gguf`, name, licence });
export const SMOLLM2 = model("smollm2-135m-instruct-q4_1", "SmolLM2 135M, Q4_1", "Apache-2.0");
const GEMMA = model("gemma-3-270m-q4_k_m", "Gemma 3 270M, Q4_K_M", "Gemma");

/** SmolLM2 in a format that no package carries, made from the one that is there. */
function made(format) {
  const one = model(
    `smollm2-135m-instruct-${format.toLowerCase()}`,
    `SmolLM2 135M, ${format}`,
    SMOLLM2.licence,
  );
  if (!existsSync(pathOf(one))) requantise(pathOf(SMOLLM2), pathOf(one), targets[format]);
  return one;
}

/** The models, made where they are missing; those that have not been fetched are left out. */
export function models() {
  const all = [SMOLLM2, made("Q4_0"), made("Q8_0")];
  return existsSync(pathOf(GEMMA)) ? [...all, GEMMA] : all;
}

/** Every model on one processor and on all of them; there the demo's also with long prompts, and what it costs the page. */
export function cases() {
  const counts = [...new Set([cpus().length, 1])];
  return counts.flatMap((processors) =>
    models().map((one) => ({
      title: `${one.name}, ${processors} processor${processors === 1 ? "" : "s"}`,
      model: one,
      processors,
      sizes: one === SMOLLM2 && processors > 1 ? PREFILL : PREFILL.slice(0, 1),
      whole: one === SMOLLM2 && processors > 1,
    })),
  );
}
