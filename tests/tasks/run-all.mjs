/**
 * `npm test`: everything that CI runs, cheapest first, each step timed, with a summary at the end.
 *
 *   npm test -- --only check,e2e   the groups (or parts of step names) that are named, and the set-up
 *   npm test -- --list             what there is
 */
import { duration } from "./run.mjs";

const argument = (name) => {
  const at = process.argv.indexOf(name);
  return at > 0 ? process.argv[at + 1] : undefined;
};

// Node itself is all that is needed up to here; a step may import what an earlier one installed.
const { steps } = await import("./steps.mjs");
const only = argument("--only")?.split(",");
const wanted = steps.filter(
  ({ name, group }) => !only || only.some((word) => group === word || name.includes(word)),
);
if (process.argv.includes("--list")) {
  for (const { name, group } of steps) console.log(`${group.padEnd(10)} ${name}`);
  process.exit(0);
}
if (wanted.length === 0) {
  console.error(`no step is called ${only}: see npm test -- --list`);
  process.exit(2);
}

const began = Date.now();
const sum = { passed: 0, failed: 0, skipped: 0 };
const table = [];
const broken = new Set();

for (const [number, { name, needs = [], run }] of wanted.entries()) {
  console.log(`\n━━ [${number + 1}/${wanted.length}] ${name}`);
  const start = Date.now();
  let counted = { passed: 0, failed: 0, skipped: 0 };
  const missing = needs.filter((need) => broken.has(need));
  if (missing.length > 0) {
    counted.failed = 1;
    console.error(`not run: ${missing.join(", ")} failed`);
  } else {
    try {
      // Set-up counts no test, and neither does it pass one.
      counted = { ...counted, ...(await run()) };
    } catch (error) {
      counted.failed += 1;
      console.error(error.message);
    }
  }
  if (counted.failed > 0) broken.add(name);
  for (const key of Object.keys(sum)) sum[key] += counted[key];
  const took = duration(Date.now() - start);
  table.push({ name, took, ...counted });
  console.log(`━━ ${counted.failed > 0 ? "FAILED" : "ok"}: ${name} (${took})`);
}

console.log(
  `\n${"step".padEnd(44)} ${"time".padStart(12)} ${"passed".padStart(8)} ${"failed".padStart(8)} ${"skipped".padStart(8)}`,
);
for (const { name, took, passed, failed, skipped } of table) {
  const mark = failed > 0 ? "✗" : "✓";
  console.log(
    `${mark} ${name.padEnd(42)} ${took.padStart(12)} ${String(passed).padStart(8)} ${String(failed).padStart(8)} ${String(skipped).padStart(8)}`,
  );
}
console.log(`\nall in all: ${duration(Date.now() - began)}`);
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(sum.failed > 0 ? 1 : 0);
