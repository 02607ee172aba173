/** Builds the npm package into dist/: the module, the script for a tag, the service worker, and the types. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundles.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

/** Writes the declarations of the public API, and the generated ones that they refer to. */
export function writeTypes(out = join(dist, "types")) {
  rmSync(out, { recursive: true, force: true });
  const tsc = join(here, "../node_modules/.bin/tsc");
  const { status } = spawnSync(tsc, ["-p", join(here, "tsconfig.public.json"), "--outDir", out], { stdio: "inherit" });
  if (status !== 0) throw new Error("the public API's types could not be written");
  cpSync(join(here, "src/protocol/generated/kwaainet.d.ts"), join(out, "protocol/generated/kwaainet.d.ts"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  const files = { sdk: "index.js", loader: "sovereign-ai.js", serviceWorker: "kwaainet-sw.js" };
  for (const [name, file] of Object.entries(files)) writeFileSync(join(dist, file), await bundle(name));
  writeTypes();
}
