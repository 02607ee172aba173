/**
 * `npm run bench`: this engine in Chromium against wllama and candle, and natively against llama.cpp, on the same file, in
 * turns. Writes docs/benchmarks.md. Run it on a machine that does nothing else.
 *
 *   node tests/bench/run.mjs [--rounds N] [--only browser|native] [--cases "Q4_1"] [--python] [--dry]
 *
 *   --python   also transformers on torch, and a llama.cpp compiled here; installs both (6 GB, once)
 *   --dry      prints instead of writing
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cases, pathOf, SMOLLM2 } from "./cases.mjs";
import { keepingNetwork } from "./sections.mjs";

const here = import.meta.dirname;
const root = join(here, "../..");
const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    only: { type: "string" },
    cases: { type: "string", default: "" },
    python: { type: "boolean", default: false },
    dry: { type: "boolean", default: false },
  },
});
const rounds = Number(values.rounds);
const log = (line) => console.log(line);
const load = loadavg()[0];

function must(command, args, cwd = root) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: "inherit" });
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")} failed`);
}

if (!existsSync(pathOf(SMOLLM2))) throw new Error(`${pathOf(SMOLLM2)} is missing: run npm start once`);
if (load > cpus().length / 2)
  console.warn(`This machine is busy (load ${load.toFixed(1)}): the numbers will be too small.`);
if (!existsSync(join(here, "node_modules"))) {
  log("Installing the engines to compare with (once) …");
  // Not `npm ci`, which fails where a registry lacks packages of other systems.
  must("npm", ["install", "--no-save", "--ignore-scripts"], here);
}

const list = cases().filter(({ title }) => new RegExp(values.cases).test(title));
if (list.length === 0) throw new Error(`no case is called ${values.cases}`);
const report = { rounds, load: load.toFixed(1), cases: list };
if (values.only !== "native") {
  if (!existsSync(join(root, "cdn/dist/frame.html"))) must("npm", ["run", "build"]);
  log("Building candle and our engine alone as wasm (minutes, the first time) …");
  const { buildWasm } = await import("./wasm.mjs");
  report.sizes = buildWasm();
  log("In the browser:");
  const { benchBrowser } = await import("./browser.mjs");
  report.browser = await benchBrowser({ cases: list, rounds, log });
}
if (values.only !== "browser") {
  if (values.python) (await import("./python.mjs")).installPython(log);
  log("Native:");
  must("cargo", ["build", "--release", "--locked", "-p", "kwaainet"]);
  const { benchNative } = await import("./native.mjs");
  report.native = benchNative({ cases: list, rounds, python: values.python, log });
}
const { document } = await import("./report.mjs");
const text = document({
  ...report,
  machine: `${cpus()[0].model.trim()}, ${cpus().length} processors, ${Math.round(totalmem() / 2 ** 30)} GiB`,
  date: new Date().toISOString().slice(0, 10),
  command: ["npm run bench", ...process.argv.slice(2)].join(" ").replace("bench --", "bench -- --"),
});
if (values.dry) log(`\n${text}`);
else {
  const file = join(root, "docs/benchmarks.md");
  writeFileSync(file, keepingNetwork(text, readFileSync(file, "utf8")));
  log("\nWrote docs/benchmarks.md");
}
