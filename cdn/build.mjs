/**
 * Builds what a website fetches, from js/src and the wasm, into dist/. The same input gives the same bytes.
 *
 *   sovereign-ai.js             the loader; asked for anew at each visit
 *   v<version>/sovereign-ai.js  the same, for ever: for sites that pin it with an integrity attribute
 *   frame.html                  the bridge page, with the deployment in it
 *   assets/<name>-<hash>.*      everything else, named by its content
 *   kwaainet-sw.js              the front door, a classic script
 *   models.json, models/*.gguf  the signed catalogue and what it lists
 *   integrity.json, _headers, headers.nginx.conf, headers.Caddyfile
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { brotli, checkBudgets } from "./budgets.mjs";
import { catalogue } from "./catalogue.mjs";
import { asCaddy, asHeadersFile, asNginx, contentSecurityPolicy, headerRules } from "./headers.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const js = join(root, "js/src");
const pkg = join(root, "sdk-wasm/pkg");

/** The glue of the wasm stands beside its TypeScript only in name: it is built, not kept. */
const glue = {
  name: "kwaainet-glue",
  setup({ onResolve }) {
    onResolve({ filter: /\/protocol\/generated\/kwaainet\.js$|^\.\/generated\/kwaainet\.js$/ }, () => ({
      path: join(pkg, "simd/kwaainet.js"),
    }));
    onResolve({ filter: /\/generated\/network\.js$/ }, () => ({ path: join(pkg, "network/kwaainet.js") }));
  },
};

const options = {
  bundle: true,
  write: false,
  minify: true,
  charset: "utf8",
  target: ["es2022"],
  legalComments: "none",
  plugins: [glue],
  logLevel: "warning",
  absWorkingDir: root,
};

/** Bundles one entry. `iife` where it has to be a classic script, `esm` where it is imported. */
async function bundle(entry, format) {
  const { outputFiles } = await build({ ...options, entryPoints: [entry], format });
  return Buffer.from(outputFiles[0].contents);
}

/** Bundles what the frame imports; code that several of them need is fetched once. Returns name -> path. */
async function bundleModules(entries, out) {
  const { metafile, outputFiles } = await build({
    ...options,
    entryPoints: Object.entries(entries).map(([name, path]) => ({ in: path, out: name })),
    format: "esm",
    splitting: true,
    metafile: true,
    outdir: join(out, "assets"),
    entryNames: "[name]-[hash]",
    chunkNames: "shared-[hash]",
  });
  for (const { path, contents } of outputFiles) writeFileSync(path, contents);
  const paths = Object.entries(metafile.outputs).map(([path, { entryPoint }]) => [
    entryPoint,
    `assets/${basename(path)}`,
  ]);
  return Object.fromEntries(
    Object.entries(entries).map(([name, entry]) => [
      name,
      paths.find(([of]) => of && join(root, of) === entry)[1],
    ]),
  );
}

const digest = (algorithm, bytes, encoding) => createHash(algorithm).update(bytes).digest(encoding);
export const integrityOf = (bytes) => `sha384-${digest("sha384", bytes, "base64")}`;

const style = "html,body{margin:0;height:100%;background:transparent}";

function framePage(deployment, frame, csp) {
  const json = JSON.stringify(deployment).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="${csp}">
<title>KwaaiNet</title>
<style>${style}</style>
<script type="application/json" id="kwaainet-deployment">${json}</script>
<script type="module" src="${frame}"></script>
</head>
<body></body>
</html>
`;
}

/**
 * @param {{out?: string, log?: (line: string) => void, models?: object[]}} [options] `models`: others than those of
 * models.config.json
 */
export async function buildCdn({ out = join(here, "dist"), log = console.log, models: wanted } = {}) {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const threads = existsSync(join(pkg, "threads/kwaainet.js"));
  rmSync(out, { recursive: true, force: true });
  mkdirSync(join(out, "assets"), { recursive: true });

  const asset = (name, extension, bytes) => {
    const path = `assets/${name}-${digest("sha256", bytes, "hex").slice(0, 12)}.${extension}`;
    writeFileSync(join(out, path), bytes);
    return path;
  };
  const wasm = (name) => asset(`kwaainet-${name}`, "wasm", readFileSync(join(pkg, name, "kwaainet_bg.wasm")));

  const assets = {
    ...(await bundleModules(
      {
        frame: join(js, "frame/main.ts"),
        // Panel and assistant in one: they share their words and parts, so that one file is smaller than two.
        panel: join(js, "drawn.ts"),
        webrtc: join(js, "webrtc/main.ts"),
      },
      out,
    )),
    worker: asset("worker", "js", await bundle(join(js, "worker/main.ts"), "iife")),
    wasmSimd: wasm("simd"),
    network: asset("network", "js", await bundle(join(js, "network/main.ts"), "iife")),
    wasmNetwork: wasm("network"),
    ...(threads && {
      wasmThreads: wasm("threads"),
      glueThreads: asset("threads", "js", await bundle(join(root, "sdk-wasm/threads.mjs"), "esm")),
    }),
    serviceWorker: "kwaainet-sw.js",
  };
  assets.assistant = assets.panel;
  writeFileSync(join(out, assets.serviceWorker), await bundle(join(js, "service-worker/main.ts"), "iife"));

  const { signed, models, files } = catalogue({ log, models: wanted });
  writeFileSync(join(out, "models.json"), `${JSON.stringify(signed)}\n`);
  mkdirSync(join(out, "models"));
  for (const file of files) place(file, join(out, "models", basename(file)));

  const csp = contentSecurityPolicy(`sha256-${digest("sha256", style, "base64")}`);
  const deployment = { version, catalogueUrl: "models.json", catalogueKey: signed.key, models, assets };
  writeFileSync(join(out, "frame.html"), framePage(deployment, assets.frame, csp));

  const loader = await bundle(join(js, "script-tag/auto.ts"), "iife");
  writeFileSync(join(out, "sovereign-ai.js"), loader);
  mkdirSync(join(out, `v${version}`));
  writeFileSync(join(out, `v${version}/sovereign-ai.js`), loader);

  const rules = headerRules({ csp });
  writeFileSync(join(out, "_headers"), asHeadersFile(rules));
  writeFileSync(join(out, "headers.nginx.conf"), asNginx(rules));
  writeFileSync(join(out, "headers.Caddyfile"), asCaddy(rules));
  writeFileSync(join(out, "integrity.json"), `${JSON.stringify(integrity(out, version), null, 2)}\n`);
  compress(out);

  log(`threads: ${threads ? "built" : "not built (the toolchain has no rust-src)"}`);
  checkBudgets(out, log);
  log("\nTo pin this version on a site:\n");
  log(
    `<script src="https://YOUR-CDN/v${version}/sovereign-ai.js" integrity="${integrityOf(loader)}" crossorigin="anonymous" data-assistant></script>`,
  );
  return { out, version, loader: integrityOf(loader) };
}

/** A model is large: a second name for the same file where the disk can do that. */
function place(file, to) {
  try {
    linkSync(file, to);
  } catch {
    copyFileSync(file, to);
  }
}

const served = (out) =>
  readdirSync(out, { recursive: true })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => statSync(join(out, name)).isFile() && !name.startsWith("models/"))
    .sort();

function integrity(out, version) {
  const files = served(out)
    .filter((name) => /\.(js|wasm|html|json)$/.test(name))
    .map((name) => {
      const bytes = readFileSync(join(out, name));
      return [name, { bytes: bytes.length, integrity: integrityOf(bytes) }];
    });
  return { version, files: Object.fromEntries(files) };
}

/** Compressed once here instead of at each request. */
function compress(out) {
  for (const name of served(out).filter((file) => /\.(js|wasm|html|json)$/.test(file))) {
    writeFileSync(join(out, `${name}.br`), brotli(readFileSync(join(out, name))));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildCdn();
