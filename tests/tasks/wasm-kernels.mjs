// The tests of the kernels, compiled to WebAssembly and run by V8, with and without relaxed SIMD: the same tests that every
// instruction set of this machine passes natively.
//
//   node tests/tasks/wasm-kernels.mjs

import { spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const TRIPLE = "wasm32-wasip1";
const variants = { simd128: "+simd128", "relaxed-simd": "+simd128,+relaxed-simd" };

// V8 has relaxed SIMD by default since 11.4 (Chromium 114, Node 21).
const [major, minor] = process.versions.v8.split(".").map(Number);
const flags = major * 100 + minor < 1104 ? ["--experimental-wasm-relaxed-simd"] : [];

function must(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (done.error || done.status !== 0)
    throw new Error(
      `${command} ${args.join(" ")} failed: ${done.error?.message ?? `exit code ${done.status}`}`,
    );
  return done;
}

must("rustup", ["target", "add", TRIPLE], { stdio: ["ignore", "inherit", "ignore"] });
for (const [name, features] of Object.entries(variants)) {
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
  const built = stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .find((message) => message.reason === "compiler-artifact" && message.profile.test && message.executable);
  console.log(`kernels in WebAssembly, ${name}:`);
  const run = join(root, "tests/tasks/wasi.mjs");
  must(process.execPath, [
    "--no-warnings",
    ...flags,
    run,
    built.executable,
    "--test-threads=1",
    "backend::cpu",
  ]);
}
