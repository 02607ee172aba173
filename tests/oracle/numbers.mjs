// Logits, greedy text and perplexity.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { LlamaModel } from "./lib/llama.mjs";
import { requantise } from "./lib/requantise.mjs";
import { argmax, cosine, record, same } from "./lib/table.mjs";

const prompts = JSON.parse(readFileSync(new URL("fixtures/prompts.json", import.meta.url), "utf8"));
const prose = readFileSync(new URL("fixtures/prose.txt", import.meta.url), "utf8");
/** Of the prompts, so many are continued: each costs 16 passes through every weight, four times. */
const CONTINUATIONS = 12;

const share = (count, total) => `${count} of ${total} (${((100 * count) / total).toFixed(1)} %)`;

/** What the engines are asked: `prompts` of the prompts, `continuations` of them continued by `greedy` tokens, and prose. */
export function questions(model, { prompts: count, continuations, greedy, prose: length }) {
  const sequences = prompts
    .slice(0, count)
    .map((prompt) => [...model.prefix(), ...model.tokenize(prompt, true)]);
  const tokens = [...model.prefix(), ...model.tokenize(prose, false)];
  return { sequences, few: sequences.slice(0, continuations), greedy, tokens: tokens.slice(0, length) };
}

/** What an engine says to them. */
export async function measure(engine, { sequences, few, greedy: count, tokens }) {
  const logits = [];
  for (const sequence of sequences) logits.push(await engine.logits(sequence));
  const greedy = [];
  for (const sequence of few) greedy.push(await engine.greedy(sequence, count));
  const scores = await engine.score(tokens);
  const perplexity = Math.exp(-scores.reduce((sum, score) => sum + score, 0) / scores.length);
  return { logits, greedy, scores, perplexity };
}

export function compare(ours, theirs) {
  const cosines = ours.logits.map((logits, i) => cosine(logits, theirs.logits[i]));
  return {
    cosines,
    scores: ours.scores.map((score, i) => score - theirs.scores[i]),
    lowest: Math.min(...cosines),
    mean: cosines.reduce((sum, value) => sum + value, 0) / cosines.length,
    likeliest: ours.logits.filter((logits, i) => argmax(logits) === argmax(theirs.logits[i])).length,
    prompts: cosines.length,
    greedy: ours.greedy.filter((tokens, i) => same(tokens, theirs.greedy[i])).length,
    continuations: ours.greedy.length,
    off: Math.abs(ours.perplexity / theirs.perplexity - 1),
  };
}

export function report(name, found, limits) {
  const { lowest, mean, likeliest, prompts, greedy, continuations, off } = found;
  const cosines = `lowest ${lowest.toFixed(6)}, mean ${mean.toFixed(6)}`;
  const isClose = lowest >= limits.lowest && mean >= limits.mean;
  record(
    `${name}: cosine of logits`,
    cosines,
    `lowest >= ${limits.lowest.toFixed(4)}, mean >= ${limits.mean.toFixed(4)}`,
    isClose,
  );
  record(
    `${name}: likeliest token`,
    share(likeliest, prompts),
    `>= ${limits.likeliest} %`,
    100 * likeliest >= limits.likeliest * prompts,
  );
  record(
    `${name}: greedy tokens`,
    share(greedy, continuations),
    `>= ${limits.greedy.toFixed(0)} %`,
    100 * greedy >= limits.greedy * continuations,
  );
  record(
    `${name}: perplexity`,
    `${(100 * off).toFixed(3)} % off`,
    `within ${(100 * limits.off).toFixed(1)} %`,
    off <= limits.off,
  );
}

/**
 * A real model, on text, twice.
 *
 * As the file is: its quantised weights make every engine round activations to 8 bits, and the model amplifies that noise, so
 * that two engines, or two settings of llama.cpp, differ where two tokens are nearly as likely. The judge is what the exact
 * weights say (llama.cpp on the same weights as floats): this engine may not be further from that than llama.cpp is.
 *
 * With the weights turned into floats: nothing is rounded, and what remains would be a mistake.
 */
export async function checkNumbers(name, llama, path, probe, scratch) {
  const model = await LlamaModel.load(llama, path);
  const asked = questions(model, { prompts: prompts.length, continuations: CONTINUATIONS, greedy: 16 });
  const theirs = await measure(model, asked);
  await model.close();
  await probe.load(path);
  const ours = await measure(probe, asked);

  const floats = join(scratch, "floats.gguf");
  requantise(path, floats);
  const exact = await LlamaModel.load(llama, floats);
  const reference = await measure(exact, asked);
  await exact.close();
  await probe.load(floats);
  const found = compare(await measure(probe, asked), reference);
  rmSync(floats);

  const direct = compare(ours, theirs);
  console.log(`      ${name}, as it is, this engine beside llama.cpp: ${sentence(direct)}`);
  const [harm, harmOfTheirs] = [compare(ours, reference), compare(theirs, reference)];
  console.log(`      llama.cpp beside the exact weights: ${sentence(harmOfTheirs)}`);
  report(
    `${name}, as it is`,
    harm,
    noFurther(harm, harmOfTheirs, { mean: 0.999, likeliest: 98, off: 0.005 }),
  );
  // llama.cpp's own rounding depends on the processor, so two engines that are both right may differ by chance.
  const allowed = Math.max(0.005, byChance(direct.scores));
  record(
    `${name}, as it is: perplexity beside llama.cpp's`,
    `${(100 * direct.off).toFixed(3)} % off`,
    `within ${(100 * allowed).toFixed(2)} %`,
    direct.off <= allowed,
  );
  report(`${name}, as floats`, found, { lowest: 0.999, mean: 0.999, likeliest: 98, greedy: 90, off: 0.005 });
}

/** How far the mean of these differences could be from 0 by chance: three standard errors. */
function byChance(differences) {
  const count = differences.length;
  const mean = differences.reduce((sum, value) => sum + value, 0) / count;
  const variance = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return 3 * Math.sqrt(variance / count);
}

/** What is demanded of a file as it is, unless llama.cpp itself is further from the exact weights. */
export const noFurther = (ours, theirs, { mean, likeliest, off }) => ({
  // A lowest of 50 is a matter of one near tie, and may be twice as far; the mean is not.
  lowest: Math.min(mean, theirs.lowest - Math.max(0.005, 1 - theirs.lowest)),
  mean: Math.min(mean, theirs.mean - byChance(ours.cosines.map((cosine, i) => cosine - theirs.cosines[i]))),
  likeliest: Math.min(likeliest, (100 * (theirs.likeliest - 3)) / theirs.prompts),
  greedy: Math.min(90, (100 * Math.max(0, theirs.greedy - 2)) / theirs.continuations),
  off: Math.max(off, theirs.off + 0.002, byChance(ours.scores)),
});

export const sentence = ({ lowest, mean, likeliest, prompts, greedy, continuations, off }) =>
  `cosine lowest ${lowest.toFixed(6)}, mean ${mean.toFixed(6)}; likeliest ${share(likeliest, prompts)}; ` +
  `greedy ${share(greedy, continuations)}; perplexity ${(100 * off).toFixed(3)} % off`;

/**
 * A random model of one or a few layers: its probabilities mean nothing, so what counts is the direction of the
 * logits. Quantised activations and a random net give each engine noise of its own; a wrongly read format is far off.
 */
export async function checkTinyNumbers(name, model, probe, vocabulary, lowestAllowed) {
  let state = 12345;
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % vocabulary;
  };
  const sequences = [1, 2, 7, 30, 31, 33, 60, 120].map((length) => Array.from({ length }, next));
  let lowest = 1;
  for (const tokens of sequences)
    lowest = Math.min(lowest, cosine(await probe.logits(tokens), await model.logits(tokens)));
  record(
    `${name}: cosine of logits`,
    `lowest ${lowest.toFixed(6)}`,
    `each >= ${lowestAllowed}`,
    lowest >= lowestAllowed,
  );
}
