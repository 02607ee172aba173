/** This engine and wllama in the same Chromium, on the same file, one after the other. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import * as demo from "@kwaainet/demo-site";
import { buildCdn } from "../../cdn/build.mjs";
import { rendererMemory, startChromium } from "../e2e/support/browser.mjs";
import { pageCost, watchPage } from "../e2e/support/page-cost.mjs";
import { startSites } from "../e2e/support/sites.mjs";
import { pageWithTag, Tab } from "../e2e/support/world.mjs";
import { chatml, DECODE, messages, PREFILL } from "./prompts.mjs";

const here = import.meta.dirname;
const root = join(here, "../..");

const types = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".html": "text/html",
};
export const rivals = {
  "wllama 3.8.1": { folder: "@wllama/wllama", port: "wllama3", wasm: ["wasm/wllama.wasm"] },
  "wllama 1.17.1": { folder: "wllama-1", port: "wllama1", wasm: ["multi-thread/wllama.wasm"] },
};

/**
 * @param {{cases: import("./cases.mjs").Case[], rounds: number, log: (line: string) => void}} options
 * @returns per case, what each engine measured in each round
 */
export async function benchBrowser({ cases, rounds, log }) {
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-bench-"));
  const dist = join(folder, "dist");
  const models = [...new Map(cases.map(({ model }) => [model.id, model])).values()];
  await buildCdn({ out: dist, models, log: () => {} });
  const inner = await demo.createServer({ port: 0, listen: false, dist });
  const sites = await startSites({ inner: inner.server ?? inner });
  const wllama = await serveRivals();
  const engines = { KwaaiNet: ours(sites, dist) };
  for (const [engine, rival] of Object.entries(rivals)) engines[engine] = theirs(wllama, rival);
  const none = () => Object.fromEntries(Object.keys(engines).map((engine) => [engine, []]));
  const results = Object.fromEntries(cases.map(({ title }) => [title, none()]));
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const [at, one] of cases.entries()) {
        for (const [engine, run] of Object.entries(engines)) {
          const profile = join(folder, `${at}-${engine.replace(/\W/g, "-")}`);
          const chromium = await startChromium({ profile, processors: one.processors });
          try {
            const measured = await run(chromium, round, one);
            log(`  ${one.title}, ${engine}: ${JSON.stringify(measured)}`);
            results[one.title][engine].push(measured);
          } catch (error) {
            log(`  ${one.title}, ${engine}: failed: ${error.message}`);
          } finally {
            await chromium.close();
          }
        }
      }
    }
    return results;
  } finally {
    await sites.close();
    await wllama.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Time to the first piece, and of the pieces after it, as the page sees them. */
const inPage = {
  kwaainet: async ({ list, tokens }) => {
    const began = performance.now();
    let first = 0;
    let pieces = 0;
    let usage = null;
    const stream = await window.kwaainet.chat.completions.create({
      messages: list,
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0,
      // The others guess nothing ahead.
      guesses: 0,
      max_tokens: tokens,
    });
    let last = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) {
        last = performance.now();
        first ||= last;
        pieces += 1;
      }
      usage = chunk.usage ?? usage;
    }
    return { first: first - began, rest: last - first, pieces, usage };
  },
};

function ours(sites, dist) {
  return async (chromium, round, { model, sizes, whole }) => {
    const page = await chromium.context.newPage();
    const tab = new Tab(sites, page);
    const url = sites.page("/bench", pageWithTag(sites.cdn, { model: model.id }));
    sites.log.length = 0;
    await watchPage(page);
    await page.goto(url);
    const cold = round === 0;
    if (cold) await tab.accept();
    const began = performance.now();
    await page.evaluate(inPage.kwaainet, { list: messages(60, `${round}w`), tokens: 1 });
    const measured = { [cold ? "coldMs" : "warmMs"]: performance.now() - began };
    if (whole && cold) {
      const fetched = sites.log.filter(({ host, path }) => host === "cdn.localhost" && shipped.test(path));
      const files = [...new Set(fetched.map(({ path }) => path))];
      measured.shipped = files.reduce((sum, path) => sum + brotli(readFileSync(join(dist, path))), 0);
    }
    const ask = (list, tokens) => page.evaluate(inPage.kwaainet, { list, tokens });
    let peak = rendererMemory(chromium.pid);
    for (const size of sizes) {
      const run = await ask(messages(size, `${round}x${size}`), DECODE);
      measured[`prefill${size}`] = rate(run.usage.prompt_tokens, run.first);
      if (size === PREFILL[0]) measured.decode = rate(run.usage.completion_tokens - 1, run.rest);
      measured[`promptTokens${size}`] = run.usage.prompt_tokens;
      peak = Math.max(peak, rendererMemory(chromium.pid));
    }
    measured.memory = peak;
    if (whole) {
      Object.assign(measured, await costOf(page, ask(messages(60, `${round}p`), 2 * DECODE)));
    }
    const { value } = await tab.attempt(() => window.kwaainet.capabilities());
    measured.backend = `${value?.host?.backend}, ${value?.host?.threads} threads`;
    return measured;
  };
}

/** Code, as opposed to the model. */
const shipped = /\.(js|wasm|html)$/;

function theirs(wllama, rival) {
  return async (chromium, round, { model, sizes, whole }) => {
    const page = await chromium.context.newPage();
    await watchPage(page);
    await page.goto(`${wllama.origin}/${rival.port}.html?model=${model.file}`);
    const ask = (list, tokens) =>
      page.evaluate(([text, count]) => window.complete(text, count), [chatml(list), tokens]);
    const began = performance.now();
    await page.evaluate(() => window.ready);
    await ask(messages(60, `${round}w`), 1);
    const measured = { [round === 0 ? "coldMs" : "warmMs"]: performance.now() - began };
    let peak = rendererMemory(chromium.pid);
    for (const size of sizes) {
      const run = await ask(messages(size, `${round}x${size}`), DECODE);
      measured[`prefill${size}`] = rate(run.promptTokens, run.first);
      if (size === PREFILL[0]) measured.decode = rate(run.tokens - 1, run.rest);
      measured[`promptTokens${size}`] = run.promptTokens;
      peak = Math.max(peak, rendererMemory(chromium.pid));
    }
    measured.memory = peak;
    if (whole) {
      measured.shipped = rivalBytes(rival);
      Object.assign(measured, await costOf(page, ask(messages(60, `${round}p`), 2 * DECODE)));
    }
    measured.backend = await page.evaluate(() => window.backend());
    return measured;
  };
}

/** What the page has paid since it was opened, and what its visitor feels while an answer comes. */
async function costOf(page, answer) {
  const { longTasks, slowest } = await pageCost(page, answer);
  return { longTasks: longTasks.length, slowestMs: slowest };
}

const rate = (tokens, ms) => (tokens * 1000) / ms;

/** wllama needs COOP and COEP for its threads, so it gets a page of its own with them. */
async function serveRivals() {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    const file = path.startsWith("/models/")
      ? join(root, `.cache${path}`)
      : join(here, path.endsWith(".html") ? `pages${path}` : `node_modules${path}`);
    let bytes;
    try {
      bytes = readFileSync(file);
    } catch {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "content-type": types[extname(file)] ?? "application/octet-stream",
      "content-length": bytes.length,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-resource-policy": "same-origin",
      etag: '"1"',
    });
    response.end(request.method === "HEAD" ? undefined : bytes);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    origin: `http://wllama.localhost:${server.address().port}`,
    close: () =>
      new Promise((done) => {
        server.closeAllConnections();
        server.close(done);
      }),
  };
}

function brotli(bytes) {
  return brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
}

function rivalBytes({ folder, wasm }) {
  const esm = join(here, "node_modules", folder, "esm");
  const scripts =
    folder === "wllama-1"
      ? ["index.js", "wllama.js", "cache-manager.js", "utils.js", "worker.js"]
      : ["index.min.js"];
  return [...scripts, ...wasm].reduce((sum, file) => sum + brotli(readFileSync(join(esm, file))), 0);
}
