// Compares this engine with llama.cpp on the same files: node tests/oracle/run.mjs [--only tokens,numbers,...]
//
// `--only dtypes [--formats Q4_K,...]` takes minutes for every format, on a real model; otherwise it is cut down to one.
// Exits with 1 when anything demanded does not hold. A missing llama.cpp or model is a loud SKIPPED line.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMPARED, checkDtypes } from "./dtypes.mjs";
import { checkGrammars } from "./grammars.mjs";
import { LlamaModel, openLlama } from "./lib/llama.mjs";
import { Probe } from "./lib/probe.mjs";
import { skip, summary } from "./lib/table.mjs";
import { checkNumbers, checkTinyNumbers } from "./numbers.mjs";
import { checkTemplates } from "./templates.mjs";
import { checkPreTokenizers, checkTokens } from "./tokens.mjs";

const MODELS = {
  "SmolLM2 135M Q4_1": "smollm2-135m-instruct-q4_1.gguf",
  "Gemma 3 270M Q4_K_M": "gemma-3-270m-q4_k_m.gguf",
};
const ARCHITECTURES = ["llama", "mistral3", "phi3", "qwen2", "qwen3", "gemma3"];
const FORMATS = [
  "F16",
  "BF16",
  "Q4_0",
  "Q4_1",
  "Q5_0",
  "Q5_1",
  "Q8_0",
  "Q2_K",
  "Q3_K",
  "Q4_K",
  "Q5_K",
  "Q6_K",
];
/** Every architecture in floats and quantised, and every format on one of them. */
const TINY = [
  ...ARCHITECTURES.map((architecture) => ({ architecture, format: "F32", lowest: 0.9999 })),
  ...ARCHITECTURES.map((architecture) => ({ architecture, format: "Q8_0", layers: 1, lowest: 0.999 })),
  ...FORMATS.map((format) => ({ architecture: "llama", format, layers: 1, lowest: 0.999 })),
  { architecture: "llama", format: "F32", rope_factors: true, lowest: 0.9999 },
  { architecture: "llama", format: "F32", rope_scale: 4, lowest: 0.9999 },
  ...["llama", "mistral3", "qwen2", "qwen3"].map((architecture) => ({
    architecture,
    format: "F32",
    rope_scale: 4,
    rope_scaling: "yarn",
    // The longest of the sequences has 120 tokens, and mistral3 ends here.
    original_context: 128,
    lowest: 0.9999,
  })),
  // Where it ends decides, at a context of 256, between the short and the long factors.
  ...[256, 64].map((original_context) => ({
    architecture: "phi3",
    format: "F32",
    long_rope: true,
    original_context,
    lowest: 0.9999,
  })),
  {
    architecture: "phi3",
    format: "F32",
    long_rope: true,
    original_context: 64,
    rope_len: 48,
    lowest: 0.9999,
  },
];

const listed = (option) =>
  process.argv.includes(option) ? process.argv[process.argv.indexOf(option) + 1].split(",") : null;
const only = listed("--only");
const wants = (part) => only === null || only.includes(part);
const folder = fileURLToPath(new URL("../../.cache/models/", import.meta.url));

let llama;
try {
  llama = await openLlama();
} catch (error) {
  skip("the whole oracle", `llama.cpp is not available here (${error.message.split("\n")[0]}): npm install`);
  process.exit(0);
}
const probe = Probe.start();
const scratch = mkdtempSync(join(tmpdir(), "kwaainet-oracle-"));
try {
  if (wants("grammars")) await checkGrammars(probe, scratch);
  if (wants("templates")) await checkTemplates(llama, probe);
  for (const [name, file] of Object.entries(MODELS)) {
    const path = join(folder, file);
    if (!existsSync(path)) {
      skip(name, `there is no ${path}: npm start fetches it`);
      continue;
    }
    const isBpe = file.startsWith("smollm2");
    if (isBpe && wants("pre")) await checkPreTokenizers(llama, probe, path);
    if (wants("tokens")) {
      const model = await LlamaModel.load(llama, path, { vocabOnly: true });
      await checkTokens(name, model, probe, await probe.load(path));
      await model.close();
    }
    if (isBpe && wants("dtypes"))
      await checkDtypes(llama, path, probe, scratch, only && (listed("--formats") ?? COMPARED));
    if (wants("numbers")) await checkNumbers(name, llama, path, probe, scratch);
  }
  for (const { lowest, ...tiny } of wants("tiny") ? TINY : []) {
    const path = join(scratch, "tiny.gguf");
    await probe.ask({ op: "tiny", path, ...tiny });
    const loaded = await probe.load(path);
    const { architecture, format, layers: _, ...variant } = tiny;
    const extra = Object.entries(variant).map(([key, value]) => `, ${key} ${value}`);
    const model = await LlamaModel.load(llama, path, { contextSize: 256 });
    await checkTinyNumbers(
      `tiny ${architecture} ${format}${extra.join("")}`,
      model,
      probe,
      loaded.tokens,
      lowest,
    );
    await model.close();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
  probe.stop();
}
process.exitCode = summary();
await llama.dispose();
