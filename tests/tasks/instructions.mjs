// Counts the instructions that prefill and decode of a tiny model take, and compares them with the committed ones: seconds are
// noisy, instructions are not.
//
//   node tests/tasks/instructions.mjs             fails where a count has grown by more than 3 %
//   node tests/tasks/instructions.mjs --update    writes tests/bench/instructions.json
//
// Valgrind knows AVX2 but not AVX-512, so AVX2 is what is counted. Another compiler makes other instructions: then there is
// nothing to compare with, and the counts are to be updated.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ask, root } from "./run.mjs";
import { debian } from "./tools.mjs";

const FILE = "tests/bench/instructions.json";
const BACKEND = "cpu (avx2)";
const TOLERANCE = 0.03;
const UPDATE = "node tests/tasks/instructions.mjs --update";

/** The engine as `profile.release` has it; its dependencies as the tests have compiled them already. */
const engine = {
  "debug-assertions": false,
  "overflow-checks": true,
  "codegen-units": 4,
  debug: false,
};

function skip(why) {
  console.error(`SKIPPED: instructions were not counted: ${why}`);
  console.log("0 passed, 0 failed, 1 skipped");
  process.exit();
}

function must(command, args, options) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28, ...options });
  if (done.error || done.status !== 0)
    throw new Error(`${command} failed: ${done.error?.message ?? done.stderr ?? `exit code ${done.status}`}`);
  return done.stdout;
}

function build() {
  const settings = Object.entries(engine).flatMap(([key, value]) => [
    "--config",
    `profile.dev.package.kwaainet-engine.${key}=${value}`,
  ]);
  const args = ["build", "--locked", "-p", "kwaainet-engine", "--example", "instructions", ...settings];
  const output = must("cargo", [...args, "--message-format=json-render-diagnostics"], {
    stdio: ["ignore", "pipe", "inherit"],
    // Incremental compilation cuts the crate into other pieces, and what is inlined depends on them.
    env: { ...process.env, CARGO_INCREMENTAL: "0" },
  });
  return output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .find((message) => message.reason === "compiler-artifact" && message.executable).executable;
}

/** Instructions by what was done: callgrind writes a file whenever `measured` returns. */
function counts(executable) {
  const folder = mkdtempSync(join(tmpdir(), "instructions-"));
  try {
    const out = join(folder, "out");
    const options = ["--toggle-collect=*::measured", "--dump-after=*::measured"];
    const said = must("valgrind", [
      "--tool=callgrind",
      ...options,
      `--callgrind-out-file=${out}`,
      executable,
    ]);
    return Object.fromEntries(
      said
        .trim()
        .split("\n")
        .map((line, at) => {
          const [backend, what] = line.split(": ");
          if (backend !== BACKEND) skip(`this processor computes with ${backend}, not with ${BACKEND}`);
          const [, total] = /^(?:totals|summary): (\d+)$/m.exec(readFileSync(`${out}.${at + 1}`, "utf8"));
          return [what, Number(total)];
        }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.arch !== "x64") skip(`this is ${process.arch}`);
if (!(await debian("valgrind", ["valgrind"], { optional: true }))) skip("valgrind is missing");
const rustc = ask("rustc", ["--version"]);
const recorded = JSON.parse(readFileSync(join(root, FILE), "utf8"));
const update = process.argv.includes("--update");
if (!update && recorded.rustc !== rustc)
  skip(`${FILE} is of ${recorded.rustc}, and here is ${rustc}; after a change of compiler: ${UPDATE}`);
const now = counts(build());
if (update) {
  writeFileSync(
    join(root, FILE),
    `${JSON.stringify({ rustc, backend: BACKEND, instructions: now }, null, 2)}\n`,
  );
  console.log(`${FILE} is written`);
}
let failed = 0;
const before = update ? now : recorded.instructions;
const all = new Set([...Object.keys(before), ...Object.keys(now)]);
for (const what of all) {
  const change = now[what] / before[what] - 1;
  const percent = `${change < 0 ? "" : "+"}${(100 * change).toFixed(2)} %`;
  console.log(`${what}: ${now[what]} instructions, ${percent}`);
  if (change < -TOLERANCE) console.log(`  fewer than recorded: keep it so with ${UPDATE}`);
  if (change <= TOLERANCE) continue;
  failed += 1;
  console.error(`  more than recorded, or not recorded; where that is meant: ${UPDATE}`);
}
console.log(`${all.size - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
