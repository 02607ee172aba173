/** The signed catalogue of the models in models.config.json, made by the `kwaainet` program. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const cache = join(root, ".cache");

/** The program: `KWAAINET_BIN`, or what cargo builds. */
function kwaainet(...args) {
  const built = process.env.KWAAINET_BIN;
  const [command, before] = built
    ? [built, []]
    : ["cargo", ["run", "--quiet", "--locked", "-p", "kwaainet", "--"]];
  const { status, stdout, error } = spawnSync(command, [...before, ...args], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (error) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`kwaainet ${args.join(" ")} failed with exit code ${status}`);
  return stdout;
}

/** Whoever builds signs with a key of their own, made at the first build. It never leaves .cache/keys. */
function signingKey(log) {
  const key = process.env.KWAAINET_CATALOGUE_KEY ?? join(cache, "keys/catalogue.key");
  if (!existsSync(key)) {
    mkdirSync(dirname(key), { recursive: true, mode: 0o700 });
    kwaainet("catalogue", "keygen", "--out", key);
    log(`made a key to sign the catalogue with: ${key} (keep it; who has it can sign models in your name)`);
  }
  return key;
}

/** Hashing a model takes seconds, so its entry is kept until the file or its description changes. */
function entryOf(model, file) {
  const { mtimeMs, size } = statSync(file);
  const kept = join(cache, "entries", `${model.id}.json`);
  const stamp = JSON.stringify({ model, mtimeMs, size });
  if (existsSync(kept) && existsSync(`${kept}.stamp`) && readFileSync(`${kept}.stamp`, "utf8") === stamp)
    return kept;
  mkdirSync(dirname(kept), { recursive: true });
  const { id, name, licence } = model;
  const described = ["--id", id, "--name", name, "--licence", licence, "--source", `models/${model.file}`];
  writeFileSync(kept, kwaainet("model", "manifest", file, ...described));
  writeFileSync(`${kept}.stamp`, stamp);
  return kept;
}

/** @param {{log?: (line: string) => void, models?: {file: string, id: string, name: string, licence: string}[]}} [options] */
export function catalogue({ log = console.log, models: wanted } = {}) {
  const config = JSON.parse(readFileSync(join(here, "models.config.json"), "utf8"));
  if (wanted) config.models = wanted;
  const files = config.models.map((model) => join(cache, "models", model.file));
  for (const file of files) {
    if (!existsSync(file))
      throw new Error(`${file} is missing: run \`node tests/tasks/fetch-models.mjs\` first`);
  }
  const entries = config.models.map((model, at) => entryOf(model, files[at]));
  const out = join(cache, wanted ? "models-wanted.json" : "models.json");
  const gateways = config.gateways.flatMap((url) => ["--gateway", url]);
  const edition = ["--edition", String(config.edition)];
  kwaainet("catalogue", "sign", "--key", signingKey(log), "--out", out, ...edition, ...gateways, ...entries);
  const signed = JSON.parse(readFileSync(out, "utf8"));
  const models = JSON.parse(signed.catalogue).models.map(({ id, name, bytes, licence }) => ({
    id,
    name,
    bytes,
    licence,
  }));
  return { signed, models, files };
}
