/**
 * What the adapter lends the node, in a real worker: the conformance suite of stores on OPFS and IndexedDB, the pool of
 * threads, and a store's faults. Needs `npm run build` and `node sdk-wasm/build.mjs --suites`.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { headerRules, headersFor } from "../../cdn/headers.mjs";
import { closeSites, MODEL, startVisitor, theSites } from "./support/world.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const threadsBuilt = existsSync(join(root, "sdk-wasm/pkg/threads/kwaainet_bg.wasm"));

/** Runs in a worker: imports the module that is named and calls `run` of the source with it. */
const worker = `
onmessage = async ({ data: { module, source, argument } }) => {
  globalThis.onKwaainetFault = (message) => postMessage({ error: message });
  try {
    const glue = await import(module);
    postMessage({ value: await (0, eval)(source)(glue, argument) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};`;

let sites;
let visitor;
let page;

before(async () => {
  sites = await theSites();
  // The files of the build as they are, on our origin, with our headers; without the policy, which forbids eval.
  const { "Content-Security-Policy": _, ...headers } = headersFor(headerRules({ csp: "" }), "/");
  const serve = (path, body, type) =>
    sites.page(path, body, { host: "cdn.localhost", headers: { ...headers, "content-type": type } });
  serve("/worker.js", worker, "text/javascript");
  for (const name of ["simd", "threads", "suites"]) {
    if (!existsSync(join(root, "sdk-wasm/pkg", name))) continue;
    const file = (end) => readFileSync(join(root, "sdk-wasm/pkg", name, end));
    serve(`/pkg/${name}/kwaainet.js`, file("kwaainet.js"), "text/javascript");
    serve(`/pkg/${name}/kwaainet_bg.wasm`, file("kwaainet_bg.wasm"), "application/wasm");
  }
  serve("/threads.mjs", readFileSync(join(root, "sdk-wasm/threads.mjs")), "text/javascript");
  const empty = serve("/empty", "<!doctype html><title>empty</title>", "text/html");
  visitor = await startVisitor();
  page = await visitor.context.newPage();
  await page.goto(empty);
});
after(async () => {
  await visitor?.close();
  await closeSites();
});

/** Calls `run(glue, argument)` in a fresh worker. */
function inWorker(module, run, argument) {
  return page.evaluate(
    (message) =>
      new Promise((done, failed) => {
        const started = new Worker("/worker.js");
        started.onmessage = ({ data }) => {
          started.terminate();
          if (data.error) failed(new Error(data.error));
          else done(data.value);
        };
        started.onerror = (event) => failed(new Error(event.message));
        started.postMessage(message);
      }),
    { module, source: `(${run})`, argument },
  );
}

describe("the conformance suite of stores", () => {
  for (const home of ["sync file", "whole file", "pages"]) {
    test(`a store that keeps every blob as: ${home}`, { timeout: 120_000 }, async () => {
      const left = await inWorker(
        "/pkg/suites/kwaainet.js",
        async (glue, name) => {
          await glue.default({ module_or_path: "/pkg/suites/kwaainet_bg.wasm" });
          await glue.run_blob_store_suite(name);
          const names = [];
          for await (const entry of (await navigator.storage.getDirectory()).keys()) names.push(entry);
          for (const database of await indexedDB.databases()) names.push(database.name);
          return names;
        },
        home,
      );
      assert.deepEqual(left, [], "an emptied store leaves neither a folder nor a database");
    });
  }
});

/** Starts a node, agrees, and answers; in a worker. */
async function answer(glue, { wasm, threads, storage, catalogueKey, model, prompt }) {
  await glue.default({ module_or_path: wasm });
  const node = await glue.start_node({
    hostReport: {
      host: "worker",
      backend: "",
      threads: 1,
      processors: navigator.hardwareConcurrency,
      storage: "",
      tier: "T1",
      missing: [],
    },
    deployment: { catalogueUrl: new URL("/models.json", location).href, catalogueKey },
    storage,
    threads,
  });
  const { port1, port2 } = new MessageChannel();
  node.attach(port2, "panel");
  const tokens = [];
  let id = 0;
  const send = (body) =>
    new Promise((done, failed) => {
      id += 1;
      const mine = id;
      port1.addEventListener("message", function listen({ data }) {
        if (data.id !== mine) return;
        if (data.kind === "chunk") {
          if (data.body.type === "delta") tokens.push(...data.body.delta.tokens);
          return;
        }
        port1.removeEventListener("message", listen);
        if (data.kind === "error") failed(new Error(`${data.body.code}: ${data.body.message}`));
        else done(data.body);
      });
      port1.postMessage({ v: 1, id, kind: "command", body });
    });
  port1.start();
  const now = Date.now();
  const record = {
    receiptId: "test",
    purposes: ["runAi", "keepModel"],
    noticeDigest: "ab".repeat(32),
    language: "en",
    grantedAtMs: now,
    expiresAtMs: now + 3_600_000,
  };
  await send({ type: "grant", record });
  const { capabilities } = await send({ type: "capabilities" });
  const messages = [{ role: "user", content: prompt }];
  await send({ type: "chat", request: { model, messages, temperature: 0, max_tokens: 48 }, resume: [] });
  await send({ type: "withdraw" });
  return { tokens, host: capabilities.host };
}

describe("threads", { skip: threadsBuilt ? false : "no build with threads here" }, () => {
  const ask = (build, threads, storage = "opfs-sync") =>
    inWorker(build === "threads" ? "/threads.mjs" : "/pkg/simd/kwaainet.js", answer, {
      wasm: `/pkg/${build}/kwaainet_bg.wasm`,
      threads,
      storage,
      catalogueKey: JSON.parse(readFileSync(join(root, "cdn/dist/models.json"), "utf8")).key,
      model: MODEL,
      prompt: "Tell me a story about a cat.",
    });

  test("the tokens are those of one thread", { timeout: 240_000 }, async () => {
    const one = await ask("simd", 1);
    assert.equal(one.host.threads, 1);
    assert.equal(one.tokens.length, 48);
    for (const threads of [2, 3]) {
      const many = await ask("threads", threads);
      assert.equal(many.host.threads, threads);
      assert.equal(many.host.tier, "T2");
      assert.deepEqual(many.tokens, one.tokens);
    }
  });

  test("a pool whose workers do not start is done without, and the report says so", async () => {
    const gone = sites.fault({
      matches: ({ path, headers }) => path === "/threads.mjs" && headers["sec-fetch-dest"] === "worker",
      apply: (_request, response) => response.writeHead(404).end(),
    });
    try {
      const { host, tokens } = await ask("threads", 2, "memory");
      assert.equal(host.threads, 1);
      assert.match(host.missing.map(({ what }) => what).join(), /2 threads/);
      assert.equal(tokens.length, 48);
    } finally {
      gone();
    }
  });
});
