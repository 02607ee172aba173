/** Builds the npm package into dist/: the module, the script for a tag, and the types. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const src = join(here, "src");

function bundle(entry, file, format) {
  return build({
    entryPoints: [join(src, entry)],
    outfile: join(dist, file),
    bundle: true,
    format,
    minify: true,
    target: "es2022",
    legalComments: "none",
  });
}

/** Writes the declarations of the public API, and the generated ones that they refer to. */
export function writeTypes(out = join(dist, "types")) {
  rmSync(out, { recursive: true, force: true });
  const tsc = join(here, "../node_modules/.bin/tsc");
  const args = ["-p", join(here, "tsconfig.public.json"), "--outDir", out];
  const { status } = spawnSync(tsc, args, { stdio: "inherit" });
  if (status !== 0) throw new Error("the types of the public API could not be written");
  const generated = "protocol/generated/kwaainet.d.ts";
  mkdirSync(dirname(join(out, generated)), { recursive: true });
  writeFileSync(join(out, generated), dataTypes(readFileSync(join(src, generated), "utf8")));
}

/**
 * Of what the wasm's build generates, the plain data. The rest (functions, classes, an envelope that extends a union,
 * which TypeScript refuses) is nothing that a user of the package may see.
 */
function dataTypes(text) {
  const declaration =
    /^(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?export (?:interface (\w+)[\s\S]*?^\}|type (\w+) = [\s\S]*?;)$/gm;
  const internal = /^(Envelope|Init\w+|SyncInit\w+|PortLike|StartOptions|DeploymentOptions)$/;
  const kept = [...text.matchAll(declaration)]
    .filter(([, a, b]) => !internal.test(a ?? b))
    .map(([whole]) => whole);
  return `${kept.join("\n\n")}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  await Promise.all([
    bundle("public/index.ts", "index.js", "esm"),
    bundle("script-tag/auto.ts", "sovereign-ai.js", "iife"),
  ]);
  writeTypes();
}
