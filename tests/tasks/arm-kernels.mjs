// The tests of the kernels, compiled for AArch64 and run by QEMU on a processor with byte dot products and on one without:
// the same tests that every instruction set of this machine passes natively.
//
//   node tests/tasks/arm-kernels.mjs
//
// The target is musl's because Rust brings all that it links with: no cross compiler is needed.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./run.mjs";
import { debian } from "./tools.mjs";

const TRIPLE = "aarch64-unknown-linux-musl";
/** `max` has all that QEMU knows; the Cortex-A53 is Armv8.0. And what the kernels must find there. */
const processors = { max: ["portable", "neon", "neon-dotprod"], "cortex-a53": ["portable", "neon"] };
/** What the kernels do not spend their time in, and what takes the compiler longest. */
const unoptimised = ["futures-util", "minijinja", "proptest", "regex-syntax", "serde_json"];

function must(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (done.status !== 0 && done.stdout) console.log(done.stdout);
  if (done.error || done.status !== 0)
    throw new Error(
      `${command} ${args.join(" ")} failed: ${done.error?.message ?? `exit code ${done.status}`}`,
    );
  return done;
}

if (!(await debian("qemu-user", ["qemu-aarch64", "qemu-aarch64-static"], { optional: true }))) {
  console.error("SKIPPED: the kernels for AArch64 were not tested, for lack of QEMU");
  console.log("0 passed, 0 failed, 1 skipped");
  process.exit();
}
must("rustup", ["target", "add", TRIPLE], { stdio: ["ignore", "inherit", "ignore"] });
const { stdout } = must(
  "cargo",
  [
    "test",
    "--locked",
    ...["-p", "kwaainet-engine", "--lib", "--no-run", "--target", TRIPLE],
    ...["--config", `target.${TRIPLE}.linker="rust-lld"`],
    ...["--config", "profile.dev.debug=false"],
    ...unoptimised.flatMap((name) => ["--config", `profile.dev.package.${name}.opt-level=0`]),
    "--message-format=json-render-diagnostics",
  ],
  {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
    env: { ...process.env, CARGO_INCREMENTAL: "0" },
  },
);
const built = stdout
  .split("\n")
  .filter((line) => line.startsWith("{"))
  .map((line) => JSON.parse(line))
  .find((message) => message.reason === "compiler-artifact" && message.profile.test && message.executable);
const emulator = spawnSync("qemu-aarch64", ["--version"]).error ? "qemu-aarch64-static" : "qemu-aarch64";
for (const [processor, sets] of Object.entries(processors)) {
  console.log(`kernels on AArch64, ${processor}:`);
  const said = must(emulator, ["-cpu", processor, built.executable, "--show-output", "backend::cpu"], {
    cwd: join(root, "sdk-core/engine"),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  }).stdout;
  console.log(said);
  const found = `instruction sets here: ${JSON.stringify(sets).replaceAll(",", ", ")}`;
  if (!said.includes(found)) throw new Error(`${processor} should have said "${found}"`);
}
