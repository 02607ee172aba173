/** What each artefact may weigh, as people receive it. A build that is over its budget fails. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { brotliCompressSync, constants } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));

export function brotli(bytes) {
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return brotliCompressSync(bytes, { params });
}

/** @returns {{name: string, bytes: number, most: number, files: string[]}[]} */
export function weigh(dist) {
  const budgets = JSON.parse(readFileSync(join(here, "budgets.json"), "utf8"));
  const all = readdirSync(dist, { recursive: true }).map((name) => name.replaceAll("\\", "/"));
  return Object.entries(budgets).map(([name, { brotli: most, files: patterns }]) => {
    const files = all.filter((file) => patterns.some((pattern) => fits(file, pattern)));
    return { name, most, files, bytes: files.reduce((sum, file) => sum + compressed(dist, file), 0) };
  });
}

function compressed(dist, file) {
  return brotli(readFileSync(join(dist, file))).length;
}

function fits(file, pattern) {
  const [head, tail] = pattern.split("*");
  return tail === undefined ? file === pattern : file.startsWith(head) && file.endsWith(tail);
}

// Node 20 can compile relaxed SIMD, but has to be told to (V8 has it by default since 11.4).
const [major, minor] = process.versions.v8.split(".").map(Number);
if (major * 100 + minor < 1104) setFlagsFromString("--experimental-wasm-relaxed-simd");

/** Names that a wasm module imports from. `env` means that something was not linked. */
export function wasmImportProblems(dist) {
  return readdirSync(join(dist, "assets"))
    .filter((name) => name.endsWith(".wasm"))
    .flatMap((name) => {
      const imports = WebAssembly.Module.imports(
        new WebAssembly.Module(readFileSync(join(dist, "assets", name))),
      );
      return imports
        .filter(({ module, kind }) => module === "env" && kind !== "memory")
        .map(({ name: symbol }) => `assets/${name} imports env.${symbol}: something was not linked`);
    });
}

/** Prints the table and throws when something is over. */
export function checkBudgets(dist, log = console.log) {
  const problems = wasmImportProblems(dist);
  for (const { name, bytes, most, files } of weigh(dist)) {
    const over = bytes > most;
    log(
      `${over ? "OVER" : "  ok"}  ${String(bytes).padStart(8)} of ${String(most).padStart(8)} bytes (brotli)  ${name}`,
    );
    if (over)
      problems.push(
        `${name} weighs ${bytes} bytes with brotli, over its budget of ${most}: ${files.join(", ")}`,
      );
  }
  if (problems.length > 0) throw new Error(problems.join("\n"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) checkBudgets(join(here, "dist"));
