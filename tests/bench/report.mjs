/** Writes docs/benchmarks.md from what was measured, and from nothing else. */

const rows = [
  ["prefill128", "prefill, about 128 tokens", "tokens/s", 1, true],
  ["prefill512", "prefill, about 512 tokens", "tokens/s", 1, true],
  ["decode", "decode, 64 tokens", "tokens/s", 1, true],
  ["coldMs", "first token, nothing on the device", "ms", 0, false],
  ["warmMs", "first token, model on the device", "ms", 0, false],
  ["memory", "peak memory", "MB", 0, false],
  ["longTasks", "tasks above 50 ms on the page's main thread", "count", 0, false],
  ["slowestMs", "slowest of 20 clicks on the page during an answer", "ms", 0, false],
  ["shipped", "code a visitor downloads (brotli)", "kB", 0, false],
];

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return null;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const scaled = (key, value) => (key === "memory" ? value / 1e6 : key === "shipped" ? value / 1e3 : value);

/** One table; the ratio is ours to the better of the others, above 1 where ours is better. */
export function table(results, ours) {
  const engines = Object.keys(results);
  const lines = [`| | ${engines.join(" | ")} | ratio |`, `|---|${engines.map(() => "---:|").join("")}---:|`];
  for (const [key, label, unit, digits, moreIsBetter] of rows) {
    const values = engines.map((engine) => median(results[engine].map((run) => run[key])));
    if (values.every((value) => value === null)) continue;
    const others = values.filter((value, at) => value !== null && engines[at] !== ours);
    const own = values[engines.indexOf(ours)];
    const best = moreIsBetter ? Math.max(...others) : Math.min(...others);
    const ratio =
      !own || !best || others.length === 0 ? "" : (moreIsBetter ? own / best : best / own).toFixed(2);
    const cells = values.map((value) => (value === null ? "" : scaled(key, value).toFixed(digits)));
    lines.push(`| ${label} (${unit}) | ${cells.join(" | ")} | ${ratio} |`);
  }
  return lines.join("\n");
}

/** A table for each case. */
function tables(results, ours) {
  return Object.entries(results).flatMap(([title, engines]) => {
    const backends = Object.entries(engines)
      .map(([engine, runs]) => [engine, runs.at(-1)?.backend])
      .filter(([, backend]) => backend);
    const said = backends.map(([engine, backend]) => `${engine}: ${backend}`).join("; ");
    return [`### ${title}`, "", ...(said ? [said, ""] : []), table(engines, ours), ""];
  });
}

export function document({ machine, date, command, rounds, load, browser, native }) {
  const parts = [
    "# Benchmarks",
    "",
    `Written by \`${command}\` on ${date}; medians of ${rounds} rounds in which the engines took turns. A ratio above 1 means`,
    "that KwaaiNet is better than the better of the others. Every engine reads the same file.",
    "",
    `Machine: ${machine}. Load average before the run: ${load}.`,
    "",
  ];
  if (browser) {
    parts.push(
      "## In the browser",
      "",
      "Chromium, headless, processor only, the same messages, timed by the page. No engine guesses tokens ahead. Tasks are counted",
      "from before the script tag runs until the last answer; browsers report no interaction shorter than 16 ms, so 0 is one that",
      "was quicker than can be told. With 1 processor all of the browser has only that one.",
      "",
      ...tables(browser, "KwaaiNet"),
    );
  }
  if (native) {
    parts.push(
      "## Native",
      "",
      "As many threads as processors are named.",
      "",
      ...tables(native, "kwaainet"),
    );
  }
  return parts.join("\n");
}
