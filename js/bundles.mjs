/**
 * Bundles what a browser loads. The CDN package names and hashes the result (cdn/build.mjs), the npm package takes two
 * of them as they are (build.mjs).
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const wasm = join(here, "../sdk-wasm/pkg");

/** Each entry, its format, and which build of the wasm it brings the JavaScript of. */
export const entries = {
  loader: { entry: "script-tag/auto.ts", format: "iife" },
  frame: { entry: "frame/main.ts", format: "esm" },
  panel: { entry: "consent/panel.ts", format: "esm" },
  assistant: { entry: "assistant/assistant.ts", format: "esm" },
  worker: { entry: "worker/main.ts", format: "esm", glue: "simd" },
  threads: { entry: "worker/threads.ts", format: "esm", glue: "threads" },
  serviceWorker: { entry: "service-worker/main.ts", format: "iife", glue: "simd" },
  sdk: { entry: "public/index.ts", format: "esm" },
};

/** The JavaScript that wasm-bindgen wrote for a build of the wasm. */
export function gluePath(name) {
  return join(wasm, name, "kwaainet.js");
}

/** Whether the wasm that an entry needs was built. */
export function canBundle(name) {
  const { glue } = entries[name];
  return glue === undefined || existsSync(gluePath(glue));
}

/** @returns {Promise<string>} the JavaScript of one entry */
export async function bundle(name, { minify = true } = {}) {
  const { entry, format, glue } = entries[name];
  const { outputFiles } = await build({
    entryPoints: [join(here, "src", entry)],
    bundle: true,
    write: false,
    format,
    minify,
    target: "es2022",
    legalComments: "none",
    plugins: [generated(glue)],
    // The glue's own way to find its wasm; it is never taken, because we name the file.
    logOverride: { "empty-import-meta": "silent" },
  });
  return outputFiles[0].text;
}

/** `protocol/generated/kwaainet.js` exists as types only; its code depends on the build. */
function generated(glue) {
  return {
    name: "kwaainet-glue",
    setup(plugin) {
      plugin.onResolve({ filter: /\/generated\/kwaainet\.js$/ }, () => ({
        path: gluePath(glue ?? "simd"),
      }));
    },
  };
}

/** The wasm file of a build. */
export function readWasm(name) {
  return readFileSync(join(wasm, name, "kwaainet_bg.wasm"));
}
