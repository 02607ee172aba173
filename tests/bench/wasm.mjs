/** Builds candle, our engine and its layers alone as wasm (tests/bench/wasm), as sdk-wasm is built. Only the bench does. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { brotliOf } from "./sizes.mjs";

const here = import.meta.dirname;
const root = join(here, "../..");
const triple = "wasm32-unknown-unknown";
// A folder that git ignores; nothing else shares these crates.
const target = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "bench");

export const wasmFolder = join(target, "pkg");
const files = ["kwaainet.js", "kwaainet_bg.wasm"];
const crates = { candle: "bench-candle", layers: "bench-layers", engine: "bench-engine" };

function run(args, cwd, env = {}) {
  const { status, error } = spawnSync("cargo", args, {
    cwd,
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
  if (error || status !== 0) throw new Error(`cargo ${args.join(" ")} failed`);
}

/** The version that the lock file names. */
export function candleVersion() {
  const lock = readFileSync(join(here, "wasm/Cargo.lock"), "utf8");
  return /name = "candle-transformers"\nversion = "([^"]+)"/.exec(lock)[1];
}

/** Builds all; `{what, wasm, brotli}` of each, in bytes. */
export function buildWasm() {
  const packages = Object.values(crates).flatMap((crate) => ["-p", crate]);
  run(["build", "--locked", "--profile", "wasm", "--target", triple, ...packages], join(here, "wasm"), {
    CARGO_TARGET_DIR: target,
  });
  const names = {
    candle: `candle ${candleVersion()}`,
    layers: "kwaainet-engine, its layers",
    engine: "kwaainet-engine",
  };
  return Object.entries(crates).map(([name, crate]) => {
    const wasm = join(target, triple, "wasm", `${crate.replace("-", "_")}.wasm`);
    const out = join(wasmFolder, name);
    run(["run", "--locked", "--quiet", "-p", "kwaainet-bindgen", "--", wasm, out], root);
    return {
      what: names[name],
      wasm: statSync(join(out, files[1])).size,
      brotli: brotliOf(out, files),
    };
  });
}
