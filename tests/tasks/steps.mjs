/**
 * Everything that `npm test` runs, cheapest first. Each step is `{name, group, run}`; `run` returns what was counted,
 * or throws. A step whose `needs` failed is not run, and counts as failed.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ask, count, must, root, run } from "./run.mjs";
import { browsers, npmPackages, python, routers, rust } from "./tools.mjs";

const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

/** A program whose own summary tells how many tests ran; one without a summary is one check. */
async function tests(command, args, options) {
  const { status, output } = await run(command, args, options);
  const counted = count(output);
  if (status !== 0 && counted.failed === 0) counted.failed = 1;
  if (status === 0 && counted.passed + counted.skipped === 0) counted.passed = 1;
  return counted;
}

const node = (script, args = [], options = {}) => tests("node", [script, ...args], options);
const cargo = (args, options = {}) => tests("cargo", args, options);
const bin = (name) => join(root, "node_modules/.bin", name);

const strict = ["--locked", "--", "-D", "warnings"];
const inBrowsers = ["kwaainet-browser", "kwaainet-sdk-wasm", "kwaainet-sdk-wasm-network"].flatMap((name) => [
  "-p",
  name,
]);
const wasm = [...inBrowsers, "--lib", "--examples", "--target", "wasm32-unknown-unknown"];
/** The core shares its parts between threads natively; in a browser the same code runs on one, and layouts differ. */
const onlyNatively = ["-A", "clippy::arc_with_non_send_sync", "-A", "unfulfilled_lint_expectations"];
/** Crates with tests of their own beside those of the core, which the coverage step runs. */
const adapters = ["kwaainet", "kwaainet-p2p", "kwaainet-sdk-wasm", "kwaainet-testkit"].flatMap((name) => [
  "-p",
  name,
]);
const programs = ["--lib", "--bins", "--tests"];

export const steps = [
  {
    name: "npm packages",
    group: "setup",
    run: () => npmPackages(),
  },
  { name: "Rust, its wasm target and its source", group: "setup", run: rust },
  { name: "cargo fmt", group: "check", run: () => cargo(["fmt", "--all", "--check"]) },
  {
    name: "biome",
    group: "check",
    run: () => tests(bin("biome"), ["ci", "--colors=off", "--error-on-warnings", "."]),
  },
  { name: "tsc", group: "check", run: () => tests(bin("tsc"), ["-p", "js/tsconfig.tests.json"]) },
  {
    name: "server and tasks",
    group: "check",
    run: () => node("--test", ["demo-site/serve.test.mjs", "tests/tasks/run.test.mjs"]),
  },
  { name: "architecture", group: "check", run: () => node("--test", ["tests/architecture/"]) },
  {
    name: "TypeScript unit tests",
    group: "unit",
    run: () => tests(bin("vitest"), ["run"], { cwd: join(root, "js") }),
  },
  { name: "clippy", group: "check", run: () => cargo(["clippy", "--workspace", "--all-targets", ...strict]) },
  {
    name: "clippy, wasm32",
    group: "check",
    run: () => cargo(["clippy", ...wasm, ...strict, ...onlyNatively]),
  },
  {
    name: "models",
    group: "setup",
    async run() {
      await python();
      await must("node", ["tests/tasks/fetch-models.mjs", "--all"]);
    },
  },
  { name: "Rust core, with coverage", group: "unit", run: () => node("tests/tasks/coverage.mjs") },
  {
    name: "Rust adapters",
    group: "unit",
    async run() {
      const ran = await cargo(["test", "--locked", ...adapters, ...programs]);
      const examples = await cargo(["test", "--locked", ...adapters, "--doc"]);
      for (const key of Object.keys(ran)) ran[key] += examples[key];
      return ran;
    },
  },
  {
    name: "simulation, a thousand nodes",
    group: "unit",
    run: () => cargo(["test", "--locked", "-p", "kwaainet-simulation"]),
  },
  {
    name: "kernels in WebAssembly",
    group: "unit",
    run: () => node("tests/tasks/wasm-kernels.mjs"),
  },
  {
    name: "kernels on AArch64",
    group: "unit",
    run: () => node("tests/tasks/arm-kernels.mjs"),
  },
  {
    name: "instructions of prefill and decode",
    group: "unit",
    run: () => node("tests/tasks/instructions.mjs"),
  },
  {
    name: "fuzz, short",
    group: "fuzz",
    run: () => node("tests/fuzz/run.mjs", ["--seconds", "5"], { env: fuzzTarget() }),
  },
  {
    name: "the kwaainet program",
    group: "build",
    async run() {
      // As its tests were compiled, so that nothing is compiled twice: features differ between selections.
      await must("cargo", ["test", "--locked", ...adapters, ...programs, "--no-run"]);
      // Signs the catalogue, and is what the interop tests talk to.
      process.env.KWAAINET_BIN ??= join(target, "debug/kwaainet");
    },
  },
  {
    name: "wasm and everything a website fetches",
    group: "build",
    needs: ["models", "the kwaainet program"],
    run: () => node("tests/tasks/build.mjs"),
  },
  {
    name: "generated TypeScript is the committed one",
    group: "build",
    needs: ["wasm and everything a website fetches"],
    run: golden,
  },
  {
    name: "size",
    group: "size",
    needs: ["wasm and everything a website fetches"],
    run: () => node("cdn/budgets.mjs"),
  },
  { name: "browsers", group: "setup", run: browsers },
  {
    name: "conformance suites for the browser",
    group: "build",
    needs: ["wasm and everything a website fetches"],
    run: () => must("node", ["sdk-wasm/build.mjs", "--suites"]).then(() => {}),
  },
  {
    name: "packaging",
    group: "packaging",
    needs: ["wasm and everything a website fetches", "browsers"],
    run: () => node("tests/packaging/run.mjs"),
  },
  {
    name: "interop",
    group: "interop",
    needs: ["models", "the kwaainet program"],
    run: () => node("--test", ["--test-concurrency=1", "tests/interop/"]),
  },
  {
    name: "peers behind routers",
    group: "interop",
    needs: ["the kwaainet program"],
    async run() {
      await routers();
      return node("--test", ["tests/nat/"]);
    },
  },
  {
    name: "oracle: llama.cpp",
    group: "oracle",
    needs: ["models"],
    run: () => node("tests/oracle/run.mjs"),
  },
  {
    name: "e2e",
    group: "e2e",
    needs: [
      "the kwaainet program",
      "wasm and everything a website fetches",
      "conformance suites for the browser",
      "browsers",
    ],
    run: () => node("tests/e2e/run.mjs", [], { minutes: 40 }),
  },
];

/** The fuzz targets are a workspace of their own, so that their allocator stays theirs; the target folder is shared. */
const fuzzTarget = () => ({ CARGO_TARGET_DIR: join(target, "fuzz") });

/** The build has just written them; git knows what they were. */
function golden() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const name of ["kwaainet.d.ts", "network.d.ts"]) {
    const file = `js/src/protocol/generated/${name}`;
    const committed = ask("git", ["show", `HEAD:${file}`]);
    const built = readFileSync(join(root, file), "utf8").trim();
    if (committed === null) {
      counts.skipped += 1;
      counts.note = "there is no git here to compare with";
    } else if (committed === built) {
      counts.passed += 1;
    } else {
      counts.failed += 1;
      console.error(`${file} is not what the build writes: commit the one that it has written now`);
    }
  }
  return counts;
}
