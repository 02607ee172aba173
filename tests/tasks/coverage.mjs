// Tests of the Rust core, run with the compiler's own coverage counters, and the share of lines they reach.
//
//   npm run coverage                     every crate of sdk-core; fails below 80 % of lines
//   npm run coverage -- --html           the same, and a line-by-line report in target/coverage/html
//
// rustc -Cinstrument-coverage plus the llvm-tools component of the toolchain: nothing else to install.
// `npm test` runs the core's tests this way, so that they are compiled and run once.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const CORE = ["types", "platform", "engine", "network", "node"];
/** The specification's bar, for the lines of the core as a whole. */
const LEAST_PERCENT = 80;

function llvmTool(name, { install = true } = {}) {
  const sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).trim();
  const triples = readdirSync(join(sysroot, "lib/rustlib"));
  const found = triples
    .map((triple) => join(sysroot, "lib/rustlib", triple, "bin", name))
    .find((path) => existsSync(path));
  if (found !== undefined) return found;
  if (install && spawnSync("rustup", ["component", "add", "llvm-tools"], { stdio: "inherit" }).status === 0) {
    return llvmTool(name, { install: false });
  }
  throw new Error(`${name} is missing: run \`rustup component add llvm-tools\``);
}

/** Builds and runs the tests of the core; throws when one fails. Returns the lines covered, in per cent. */
export function coverage({ html = false } = {}) {
  const out = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "coverage");
  const profiles = join(out, "profiles");
  rmSync(profiles, { recursive: true, force: true });
  mkdirSync(profiles, { recursive: true });
  const env = {
    ...process.env,
    RUSTC_WORKSPACE_WRAPPER: join(root, "tests/tasks/instrument.sh"),
    LLVM_PROFILE_FILE: join(profiles, "%p-%m.profraw"),
  };
  const packages = CORE.flatMap((name) => ["-p", `kwaainet-${name}`]);

  const built = spawnSync(
    "cargo",
    [
      "test",
      "--locked",
      ...packages,
      "--lib",
      "--tests",
      "--no-run",
      "--message-format=json-render-diagnostics",
    ],
    { cwd: root, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 28 },
  );
  if (built.status !== 0) throw new Error("the tests of the core do not compile");
  const binaries = built.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .filter((message) => message.reason === "compiler-artifact" && message.profile.test && message.executable)
    .map((message) => message.executable);

  // The examples in the documentation are run here too, where the crates are compiled already; they cover nothing.
  const nowhere = { ...env, LLVM_PROFILE_FILE: join(out, "examples.profraw") };
  for (const [targets, environment] of [
    [["--lib", "--tests"], env],
    [["--doc"], nowhere],
  ]) {
    const args = ["test", "--locked", ...packages, ...targets, "--no-fail-fast"];
    const { status } = spawnSync("cargo", args, { cwd: root, env: environment, stdio: "inherit" });
    if (status !== 0) throw new Error("tests of the core failed");
  }

  const raw = readdirSync(profiles).map((name) => join(profiles, name));
  const merged = join(out, "core.profdata");
  execFileSync(llvmTool("llvm-profdata"), ["merge", "--sparse", "--output", merged, ...raw]);
  const objects = binaries.flatMap((path, index) => (index === 0 ? [path] : ["--object", path]));
  const common = [
    ...objects,
    `--instr-profile=${merged}`,
    // Of the workspace's crates only the core, without its tests and without what only a feature compiles.
    "--ignore-filename-regex=(/rustc/|/rustlib/|/registry/|/tests/|tests\\.rs|testkit/|/backend/candle\\.rs)",
  ];
  if (html) {
    const report = join(out, "html");
    execFileSync(llvmTool("llvm-cov"), ["show", ...common, "--format=html", `--output-dir=${report}`]);
    console.log(`line by line: ${join(report, "index.html")}`);
  }
  const summary = JSON.parse(
    execFileSync(llvmTool("llvm-cov"), ["export", ...common, "--summary-only"], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    }),
  ).data[0];
  for (const file of summary.files) {
    const { percent, count } = file.summary.lines;
    console.log(
      `${percent.toFixed(1).padStart(6)} %  ${String(count).padStart(5)} lines  ${file.filename.replace(`${root}/`, "")}`,
    );
  }
  const { percent, covered, count } = summary.totals.lines;
  console.log(`coverage of the Rust core: ${percent.toFixed(1)} % (${covered} of ${count} lines)`);
  if (percent < LEAST_PERCENT) {
    throw new Error(
      `coverage is ${percent.toFixed(1)} %, below ${LEAST_PERCENT} %: add tests for the files above that are low`,
    );
  }
  return percent;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    coverage({ html: process.argv.includes("--html") });
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
