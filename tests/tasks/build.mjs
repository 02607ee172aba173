/** `npm run build`: the wasm, its TypeScript, and everything a website fetches. `--no-threads` makes one wasm only. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildCdn } from "../../cdn/build.mjs";
import { buildWasm, canBuildThreads, writeTypes } from "../../sdk-wasm/build.mjs";
import { duration, must, root } from "./run.mjs";

async function timed(what, work) {
  console.log(`\n== ${what}`);
  const start = Date.now();
  const result = await work();
  console.log(`== ${what}: ${duration(Date.now() - start)}`);
  return result;
}

export async function buildAll({ threads = true } = {}) {
  await timed("wasm, SIMD", () => {
    buildWasm("simd");
    writeTypes();
  });
  if (threads && canBuildThreads()) await timed("wasm, SIMD and threads", () => buildWasm("threads"));
  await timed("wasm, the network", () => {
    buildWasm("network");
    writeTypes("network");
  });
  await timed("what a website fetches", () => buildCdn());
  if (existsSync(join(root, "js/build.mjs"))) {
    await timed("the npm package", () => must("node", ["build.mjs"], { cwd: join(root, "js") }));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await buildAll({ threads: !process.argv.includes("--no-threads") });
  } catch (error) {
    console.error(`\n${error.message}`);
    process.exit(1);
  }
}
