/** Builds the npm package into dist/: the module, the script for a tag, and the types. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";
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
  cpSync(join(src, generated), join(out, generated));
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
