/**
 * What `--python` adds: transformers on torch, and a llama.cpp compiled here for this very processor. Each gets a folder of
 * its own under .cache/python, once; by pip as it is set up on this machine.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DECODE, FIRST } from "./prompts.mjs";
import { json } from "./tools.mjs";

const here = import.meta.dirname;
const folder = join(here, "../../.cache/python");

const places = {
  torch: {
    packages: ["torch==2.15.0", "transformers==5.23.0", "gguf==0.19.0", "accelerate==1.15.0"],
    // The package index has no build of torch for processors alone on Linux.
    cost: "about 3 GB to download, 5.6 GB on disk, some minutes",
    args: [],
  },
  llama: {
    packages: ["llama-cpp-python==0.3.36"],
    cost: "compiled with this machine's own instructions, about 5 minutes of two processors",
    args: ["--no-binary", "llama-cpp-python"],
    env: { CMAKE_ARGS: "-DGGML_NATIVE=ON" },
  },
};

const pythonOf = (place) => join(folder, place, "bin/python");

/** Installs what is missing. */
export function installPython(log) {
  for (const [place, { packages, cost, args, env }] of Object.entries(places)) {
    const done = join(folder, place, "installed");
    const wanted = packages.join(" ");
    if (existsSync(done) && readFileSync(done, "utf8") === wanted) continue;
    log(`Installing ${wanted} under .cache/python (${cost}) …`);
    const began = Date.now();
    rmSync(join(folder, place), { recursive: true, force: true });
    must("python3", ["-m", "venv", join(folder, place)]);
    must(pythonOf(place), ["-m", "pip", "install", "--quiet", ...args, ...packages], env);
    writeFileSync(done, wanted);
    log(`  ${((Date.now() - began) / 60_000).toFixed(1)} minutes`);
  }
}

function must(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")} failed`);
}

const asked = ({ model, sizes, threads }, more = {}) =>
  JSON.stringify({ model, sizes, threads, first: FIRST, decode: DECODE, ...more });
const torch = (dtype) => (one) =>
  json(pythonOf("torch"), [join(here, "python/torch_bench.py"), asked(one, { dtype })]);

/** As those of native.mjs. */
export const pythonEngines = {
  "llama.cpp (built here)": (one) =>
    json(pythonOf("llama"), [join(here, "python/llama_bench.py"), asked(one)]),
  "transformers, f32": torch("float32"),
  "transformers, bf16": torch("bfloat16"),
};
