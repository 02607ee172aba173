/** What somebody gets who installs @kwaainet/sdk. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "../../demo-site/serve.mjs";
import { startChromium } from "../e2e/support/browser.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");
const bin = join(root, "node_modules/.bin");
const work = mkdtempSync(join(tmpdir(), "kwaainet-packaging-"));
/** The site's pages, one folder for each way to use the package. */
const pages = join(work, "pages");

let tarball = "";
let server = null;
let chromium = null;

function run(command, args, cwd = work) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (error) throw error;
  assert.equal(status, 0, `${command} ${args.join(" ")}:\n${stdout}\n${stderr}`);
  return stdout;
}

/** A project in which the tarball, and nothing else, is installed. */
function project(name, files) {
  const folder = join(work, name);
  mkdirSync(folder, { recursive: true });
  const manifest = { name, private: true, type: "module" };
  writeFileSync(join(folder, "package.json"), JSON.stringify(manifest));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  // Offline: it has no dependencies that would have to be fetched.
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], folder);
  return folder;
}

before(async () => {
  assert.ok(existsSync(join(root, "cdn/dist/frame.html")), "cdn/dist is missing: run `npm run build` first");
  run(process.execPath, [join(root, "js/build.mjs")]);
  const packed = run("npm", ["pack", "--json", "--pack-destination", work], join(root, "js"));
  const report = JSON.parse(packed);
  const [{ filename }] = Array.isArray(report) ? report : Object.values(report);
  tarball = join(work, filename);
  mkdirSync(pages, { recursive: true });
  server = await createServer({ port: 0, pages });
  chromium = await startChromium({ profile: join(work, "profile") });
});

after(async () => {
  await chromium?.close();
  await server?.close();
  rmSync(work, { recursive: true, force: true });
});

/** What a page writes down about its instance. */
async function outcome(path) {
  const page = await chromium.context.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(error.message));
  await page.goto(`${server.site}${path}`);
  const handle = await page
    .waitForFunction(() => globalThis.outcome, null, { timeout: 30_000 })
    .catch(() => assert.fail(`${path} said nothing: ${said.join("\n")}`));
  const value = await handle.jsonValue();
  await page.close();
  return value;
}

/** The same few lines in every project. */
const use = `
const node = new KwaaiNet({ base: __BASE__, services: ["compute"], maxResources: { cpu: 50 } });
node.on("ready", ({ purposes }) => {
  globalThis.outcome = { ready: true, purposes, frames: document.querySelectorAll("iframe").length };
});
node.initialize().catch(({ name, code, message }) => {
  globalThis.outcome = { name, code, message };
});
`;
const used = () => use.replace("__BASE__", JSON.stringify(server.cdn));
const ready = { ready: true, purposes: [], frames: 1 };

describe("the tarball", () => {
  test("holds what it promises and nothing else", () => {
    const list = run("tar", ["-tzf", tarball]).trim().split("\n").sort();
    const code = list.filter((name) => !name.endsWith(".d.ts"));
    assert.deepEqual(code, [
      "package/LICENSE",
      "package/README.md",
      "package/dist/index.js",
      "package/dist/sovereign-ai.js",
      "package/package.json",
    ]);
    assert.ok(statSync(tarball).size < 60_000, `${statSync(tarball).size} bytes are too many`);
  });

  test("depends on nothing", () => {
    const folder = project("bare", {});
    const manifest = JSON.parse(
      readFileSync(join(folder, "node_modules/@kwaainet/sdk/package.json"), "utf8"),
    );
    assert.deepEqual(Object.keys(manifest.dependencies ?? {}), []);
    assert.equal(manifest.scripts?.postinstall, undefined);
  });

  test("exports exactly its public API", async () => {
    const folder = project("exports", {
      "look.mjs": 'console.log(Object.keys(await import("@kwaainet/sdk")).sort().join())',
    });
    assert.equal(run(process.execPath, ["look.mjs"], folder).trim(), "KwaaiNet,KwaaiNetError");
    writeFileSync(join(folder, "deep.mjs"), 'import "@kwaainet/sdk/dist/index.js"');
    const { status, stderr } = spawnSync(process.execPath, ["deep.mjs"], { cwd: folder, encoding: "utf8" });
    assert.notEqual(status, 0);
    assert.match(stderr, /ERR_PACKAGE_PATH_NOT_EXPORTED/);
  });
});

describe("its types", () => {
  const consumer = `
import { KwaaiNet, KwaaiNetError, type ChatCompletion, type ChatCompletionChunk, type Receipt } from "@kwaainet/sdk";
const node = new KwaaiNet({ base: "https://cdn.example/", rewardSplit: [70, 30], maxResources: { cpu: 20 } });
node.on("progress", ({ done, total, bytesPerSecond }) => { const n: number = done / total + (bytesPerSecond ?? 0); void n; });
export async function ask(signal: AbortSignal): Promise<string> {
  const plain: ChatCompletion = await node.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] });
  const receipt: Receipt = plain.kwaainet.receipt;
  const stream = await node.chat.completions.create({ messages: [{ role: "user", content: "Hi" }], stream: true }, { signal });
  let text = receipt.backend;
  for await (const chunk of stream) { const one: ChatCompletionChunk = chunk; text += one.choices[0]?.delta.content ?? ""; }
  return text;
}
export const codeOf = (error: unknown) => error instanceof KwaaiNetError ? error.code : undefined;
`;
  const wrong = `
import { KwaaiNet } from "@kwaainet/sdk";
new KwaaiNet({ maxResource: {} });
new KwaaiNet({}).on("redy", () => {});
`;
  for (const resolution of ["bundler", "nodenext"]) {
    test(`resolve with moduleResolution ${resolution}, and catch mistakes`, () => {
      const folder = project(`types-${resolution}`, { "good.ts": consumer, "wrong.ts": wrong });
      const module = resolution === "bundler" ? "esnext" : "nodenext";
      const tsc = (file) =>
        spawnSync(
          join(bin, "tsc"),
          [
            file,
            "--noEmit",
            "--strict",
            "--target",
            "es2022",
            "--lib",
            "es2023,dom,dom.iterable,dom.asynciterable",
          ].concat(["--module", module, "--moduleResolution", resolution, "--types", "", "--ignoreConfig"]),
          { cwd: folder, encoding: "utf8" },
        );
      const good = tsc("good.ts");
      assert.equal(good.status, 0, good.stdout);
      const bad = tsc("wrong.ts");
      assert.match(bad.stdout, /maxResource/);
      assert.match(bad.stdout, /redy/);
    });
  }
});

describe("in Chromium, `new KwaaiNet({base})` reaches `ready`", () => {
  test("in a plain page with an import map", async () => {
    const folder = project("plain", {});
    cpSync(join(folder, "node_modules"), join(pages, "plain/node_modules"), { recursive: true });
    const map = { imports: { "@kwaainet/sdk": "/plain/node_modules/@kwaainet/sdk/dist/index.js" } };
    const html = `<!doctype html><meta charset="utf-8"><title>plain</title><script type="importmap">${JSON.stringify(map)}</script>
<script type="module">import { KwaaiNet } from "@kwaainet/sdk";${used()}</script>`;
    writeFileSync(join(pages, "plain/index.html"), html);
    assert.deepEqual(await outcome("/plain/"), ready);
  });

  test("in a page that Vite built", async () => {
    const folder = project("vite", {
      "index.html":
        '<!doctype html><meta charset="utf-8"><title>vite</title><script type="module" src="/main.js"></script>',
      "main.js": `import { KwaaiNet } from "@kwaainet/sdk";${used()}`,
    });
    const { build } = await import(createRequire(join(root, "package.json")).resolve("vite"));
    const outDir = join(pages, "vite");
    await build({ root: folder, base: "/vite/", logLevel: "warn", build: { outDir, emptyOutDir: true } });
    assert.deepEqual(await outcome("/vite/"), ready);
  });

  test("with the package's own script and a base elsewhere", async () => {
    const folder = project("script", {});
    mkdirSync(join(pages, "script"), { recursive: true });
    cpSync(
      join(folder, "node_modules/@kwaainet/sdk/dist/sovereign-ai.js"),
      join(pages, "script/sovereign-ai.js"),
    );
    const html = `<!doctype html><meta charset="utf-8"><title>script</title>
<script src="sovereign-ai.js" data-base="${server.cdn}/" data-services="compute"></script>
<script>kwaainet.on("ready", ({ purposes }) => {
  globalThis.outcome = { ready: true, purposes, frames: document.querySelectorAll("iframe").length };
});</script>`;
    writeFileSync(join(pages, "script/index.html"), html);
    assert.deepEqual(await outcome("/script/"), ready);
  });

  test("and a base where nothing is served is an error that says so", async () => {
    writeFileSync(
      join(pages, "plain/nowhere.html"),
      `<!doctype html><meta charset="utf-8"><title>nowhere</title>
<script type="module">import { KwaaiNet } from "./node_modules/@kwaainet/sdk/dist/index.js";${used().replace(server.cdn, `${server.cdn}/nowhere`)}</script>`,
    );
    const { name, code, message } = await outcome("/plain/nowhere.html");
    assert.equal(name, "KwaaiNetError");
    assert.equal(code, "hostBlocked");
    assert.match(message, /nowhere\/frame\.html did not answer/);
  });
});
