/** Writes docs/benchmarks.md from what was measured, and from nothing else. */
import { ENGINE_KB, groups, limit, ratioGoal, SHARE, verdict } from "./goals.mjs";
import { TOGETHER } from "./native.mjs";
import * as texts from "./texts.mjs";

/** Key, label, unit, divisor, digits, and whether more is better. */
const rows = [
  ["prefill128", "prefill, about 128 tokens", "tokens/s", 1, 1, true],
  ["prefill512", "prefill, about 512 tokens", "tokens/s", 1, 1, true],
  ["decode", "decode, 64 tokens", "tokens/s", 1, 1, true],
  ["coldMs", "first token, nothing on the device", "ms", 1, 0, false],
  ["warmMs", "first token, model on the device", "ms", 1, 0, false],
  ["loadMs", "of that, with KwaaiNet's node running: load the model, read the question", "ms", 1, 0, false],
  ["coldMemory", "peak memory, nothing on the device", "MB", 1e6, 0, false],
  ["memory", "peak memory, model on the device", "MB", 1e6, 0, false],
  ["longTasks", "tasks above 50 ms on the page's main thread", "count", 1, 0, false],
  ["slowestMs", "slowest of 20 clicks on the page during an answer", "ms", 1, 0, false],
  ["shipped", "code a visitor downloads (brotli)", "kB", 1e3, 0, false],
];
/** With more rounds than these the median needs no company. */
const FEW = 5;

const numbers = (runs, key) => runs.map((run) => run[key]).filter(Number.isFinite);

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return null;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median, and how far the rounds lie apart. */
function cell(runs, [key, , , divisor, digits]) {
  const values = numbers(runs, key).map((value) => value / divisor);
  if (values.length === 0) return runs.every(({ failed }) => failed) ? (runs[0]?.failed ?? "") : "";
  const shown = values.map((value) => value.toFixed(digits));
  const middle = median(values).toFixed(digits);
  if (values.length > FEW || new Set(shown).size === 1) return middle;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${middle} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}

/** How many times better ours is than the best of these; `null` if one of the two sides has no number. */
function ratio(own, others, moreIsBetter) {
  const known = others.filter((value) => value !== null);
  if (own === null || known.length === 0) return null;
  const best = moreIsBetter ? Math.max(...known) : Math.min(...known);
  const found = moreIsBetter ? own / best : best / own;
  return Number.isFinite(found) ? found : null;
}

/** One table: a column for each engine, one for each group of rivals, and what of it was a goal. */
export function table(results, ours, where, one) {
  const engines = Object.keys(results);
  const rivals = Object.entries(groups[where])
    .map(([group, pattern]) => [group, engines.filter((engine) => pattern.test(engine))])
    .filter(([, members]) => members.length > 0);
  const head = [...engines, ...rivals.map(([group]) => `times ${group}`)];
  const lines = [`| | ${head.join(" | ")} | goal |`, `|---|${head.map(() => "---:|").join("")}---|`];
  for (const row of rows) {
    const [key, label, unit, divisor, , moreIsBetter] = row;
    const middle = Object.fromEntries(
      engines.map((engine) => [engine, median(numbers(results[engine], key))]),
    );
    if (Object.values(middle).every((value) => value === null)) continue;
    const goals = [];
    const times = rivals.map(([group, members]) => {
      const others = members.map((engine) => middle[engine]);
      const found = ratio(middle[ours], others, moreIsBetter);
      const goal = ratioGoal(where, group, key, one);
      if (found !== null && goal) goals.push(`${goal} times ${group}: ${verdict(found >= goal)}`);
      return found === null ? "" : found.toFixed(2);
    });
    const most = limit(where, key, one);
    if (most && middle[ours] !== null) goals.push(`below ${most}: ${verdict(middle[ours] / divisor < most)}`);
    const cells = [...engines.map((engine) => cell(results[engine], row)), ...times, goals.join("; ")];
    lines.push(`| ${label} (${unit}) | ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}

/** A table for each case, and how each engine computed. */
function tables(results, ours, where, cases) {
  return cases.flatMap((one) => {
    const engines = results[one.title];
    const said = Object.entries(engines)
      .map(([engine, runs]) => [engine, runs.findLast(({ backend, why }) => backend ?? why)])
      .filter(([, run]) => run)
      .map(([engine, { backend, why }]) => `- ${engine}: ${backend ?? `failed with "${why}"`}`);
    return [
      `### ${one.title}`,
      "",
      `Every engine reads \`${one.model.file}\`.`,
      "",
      ...(said.length > 0 ? [...said, ""] : []),
      table(engines, ours, where, one),
      "",
    ];
  });
}

/** What each engine weighs as wasm. */
export function sizesTable(sizes) {
  const lines = sizes.map(({ what, wasm, brotli }) => {
    const isOurs = what.startsWith("kwaainet");
    const goal = isOurs ? `at most ${ENGINE_KB}: ${verdict(brotli / 1e3 <= ENGINE_KB)}` : "";
    return `| ${what} | ${(wasm / 1e3).toFixed(0)} | ${(brotli / 1e3).toFixed(0)} | ${goal} |`;
  });
  return [
    "| | wasm (kB) | wasm and its JavaScript, brotli (kB) | goal |",
    "|---|---:|---:|---|",
    ...lines,
  ].join("\n");
}

/** How much of the bandwidth decoding reaches: a row for each model, a column for each number of processors. */
export function shareTable(results, cases) {
  const counts = [...new Set(cases.map(({ processors }) => processors))];
  const names = [...new Set(cases.map(({ model }) => model.name))];
  const head = counts.map((count) => `${count} thread${count === 1 ? "" : "s"}`);
  const lines = names.map((name) => {
    const found = counts.map((count) => {
      const one = cases.find(({ model, processors }) => model.name === name && processors === count);
      const runs = one ? results[one.title].kwaainet : [];
      const [share, bandwidth] = [median(numbers(runs, "share")), median(numbers(runs, "bandwidth"))];
      const text = share === null ? "" : `${share.toFixed(1)} % of ${bandwidth.toFixed(1)} GB/s`;
      return { share: share ?? 0, text };
    });
    const best = Math.max(...found.map(({ share }) => share));
    const cells = found.map(({ text }) => text);
    return `| ${name} | ${cells.join(" | ")} | ${SHARE} %: ${best > 0 ? verdict(best >= SHARE) : ""} |`;
  });
  return [`| | ${head.join(" | ")} | goal |`, `|---|${head.map(() => "---:|").join("")}---|`, ...lines].join(
    "\n",
  );
}

/** How much faster several answers are made together. */
export function togetherTable(results, cases) {
  const lines = cases.flatMap(({ title }) => {
    const speeds = TOGETHER.map((answers) => median(numbers(results[title].kwaainet, `together${answers}`)));
    const [alone] = speeds;
    if (speeds.includes(null)) return [];
    const cells = speeds.map((speed) => `${speed.toFixed(1)} (${(speed / alone).toFixed(2)} times)`);
    return [`| ${title} | ${cells.join(" | ")} |`];
  });
  if (lines.length === 0) return null;
  const head = TOGETHER.map((answers) => `${answers} answer${answers === 1 ? "" : "s"}`);
  return [`| tokens/s | ${head.join(" | ")} |`, `|---|${head.map(() => "---:|").join("")}`, ...lines].join(
    "\n",
  );
}

export function document({ machine, date, command, rounds, load, cases, sizes, browser, native }) {
  const parts = [texts.head({ command, date, rounds, machine, load }), ""];
  if (sizes) parts.push(texts.sizes, "", sizesTable(sizes), "");
  if (browser) parts.push(texts.browser, "", ...tables(browser, "KwaaiNet", "browser", cases));
  if (native) {
    parts.push(texts.native, "", ...tables(native, "kwaainet", "native", cases));
    parts.push(texts.share, "", shareTable(native, cases), "");
    const together = togetherTable(native, cases);
    if (together) parts.push(texts.together, "", together, "");
  }
  return parts.join("\n");
}
