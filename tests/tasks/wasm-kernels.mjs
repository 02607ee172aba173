// The tests of the kernels, compiled to WebAssembly and run by V8, with and without relaxed SIMD: the same tests that every
// instruction set of this machine passes natively.
//
//   node tests/tasks/wasm-kernels.mjs
//
// What relaxed SIMD computes depends on the processor and on V8, so that build is run by this Node.js, by one whose V8 is
// as new as browsers' (with AVX-VNNI, where this machine has it), and by the same for AArch64 in QEMU.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { must as install, root } from "./run.mjs";
import { debian } from "./tools.mjs";

const TRIPLE = "wasm32-wasip1";
const variants = { simd128: "+simd128", "relaxed-simd": "+simd128,+relaxed-simd" };
/** V8 13.6: the oldest that was seen to use AVX-VNNI. */
const NEWER_NODE = "24.21.0";

// V8 has relaxed SIMD by default since 11.4 (Chromium 114, Node 21).
const [major, minor] = process.versions.v8.split(".").map(Number);
const flags = major * 100 + minor < 1104 ? ["--experimental-wasm-relaxed-simd"] : [];

function must(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (done.status !== 0 && done.stdout) console.log(done.stdout);
  if (done.error || done.status !== 0)
    throw new Error(
      `${command} ${args.join(" ")} failed: ${done.error?.message ?? `exit code ${done.status}`}`,
    );
  return done;
}

/** Compiles the tests; the path of the program. */
function built(features) {
  const args = ["test", "--locked", "-p", "kwaainet-engine", "--lib", "--no-run", "--target", TRIPLE];
  const { stdout } = must("cargo", [...args, "--message-format=json-render-diagnostics"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
    env: {
      ...process.env,
      // All memory at once: V8 11.3 breaks when this much grows.
      RUSTFLAGS: `-Ctarget-feature=${features} -Clink-arg=--initial-memory=536870912`,
    },
  });
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .find((message) => message.reason === "compiler-artifact" && message.profile.test && message.executable)
    .executable;
}

/** A Node.js from npm, kept apart so that it comes before nobody's own. */
async function newerNode(processor) {
  const name = `node-linux-${processor}`;
  const folder = join(root, ".cache", `${name}-${NEWER_NODE}`);
  const program = join(folder, "node_modules", name, "bin/node");
  if (!existsSync(program)) {
    const quiet = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"];
    // `--force`: it is for another processor on purpose.
    await install("npm", ["install", "--prefix", folder, ...quiet, "--force", `${name}@${NEWER_NODE}`]);
  }
  return program;
}

function run(title, program, [command, ...args], found) {
  console.log(`kernels in WebAssembly, ${title}:`);
  const wasi = [join(root, "tests/tasks/wasi.mjs"), program, "--test-threads=1", "--show-output"];
  const said = must(command, [...args, "--no-warnings", ...wasi, "backend::cpu"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  }).stdout;
  console.log(said);
  if (found && !said.includes(found)) throw new Error(`${title} should have said "${found}"`);
}

must("rustup", ["target", "add", TRIPLE], { stdio: ["ignore", "inherit", "ignore"] });
run("simd128", built(variants.simd128), [process.execPath]);
const relaxed = built(variants["relaxed-simd"]);
run("relaxed-simd", relaxed, [process.execPath, ...flags]);
if (process.platform === "linux" && process.arch === "x64") {
  run(`relaxed-simd, Node.js ${NEWER_NODE}`, relaxed, [await newerNode("x64")]);
  const library = "/usr/aarch64-linux-gnu/lib/libstdc++.so.6";
  const emulated =
    (await debian("qemu-user", ["qemu-aarch64"], { optional: true })) &&
    (await debian("libstdc++6-arm64-cross", [library], { optional: true }));
  if (emulated) {
    const arm = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "max", await newerNode("arm64")];
    run("relaxed-simd on AArch64", relaxed, arm, '"relaxed-simd, signed quads"]');
  } else {
    console.error("SKIPPED: the kernels in WebAssembly on AArch64 were not tested, for lack of QEMU");
    console.log("0 passed, 0 failed, 1 skipped");
  }
}
