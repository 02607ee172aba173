/** This engine and wllama in the same Chromium, on the same file, one after the other. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import * as demo from "@kwaainet/demo-site";
import { rendererMemory, startChromium } from "../e2e/support/browser.mjs";
import { pageCost, watchPage } from "../e2e/support/page-cost.mjs";
import { startSites } from "../e2e/support/sites.mjs";
import { dist, pageWithTag, Tab } from "../e2e/support/world.mjs";
import { chatml, DECODE, messages, PREFILL } from "./prompts.mjs";

const here = import.meta.dirname;

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

/** @param {{model: string, rounds: number, log: (line: string) => void}} options */
export async function benchBrowser({ model, rounds, log }) {
  const inner = await demo.createServer({ port: 0, listen: false, dist });
  const sites = await startSites({ inner: inner.server ?? inner });
  const wllama = await serveRivals(model);
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-bench-"));
  const results = {};
  const add = (engine, measured) => {
    results[engine] ??= [];
    results[engine].push(measured);
    log(`  ${engine}: ${JSON.stringify(measured)}`);
  };
  try {
    const engines = {
      KwaaiNet: () => ours(sites),
      ...mapValues(rivals, (rival) => () => theirs(wllama, rival)),
    };
    for (let round = 0; round < rounds; round += 1) {
      for (const [engine, open] of Object.entries(engines)) {
        const profile = join(folder, engine.replace(/\W/g, "-"));
        const chromium = await startChromium({ profile });
        try {
          const run = await open();
          add(engine, await run(chromium, round));
        } catch (error) {
          log(`  ${engine}: failed: ${error.message}`);
        } finally {
          await chromium.close();
        }
      }
    }
    const shipped = { KwaaiNet: brotliOf(sites.fetched ?? new Map()) };
    for (const [engine, rival] of Object.entries(rivals)) shipped[engine] = rivalBytes(rival);
    return { results, shipped };
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

async function ours(sites) {
  return async (chromium, round) => {
    const page = await chromium.context.newPage();
    const tab = new Tab(sites, page);
    const url = sites.page("/bench", pageWithTag(sites.cdn));
    sites.log.length = 0;
    await watchPage(page);
    await page.goto(url);
    const cold = round === 0;
    if (cold) await tab.accept();
    const began = performance.now();
    await page.evaluate(inPage.kwaainet, { list: messages(60, `${round}w`), tokens: 1 });
    const firstToken = performance.now() - began;
    if (cold) {
      sites.fetched = new Map();
      for (const { host, path } of sites.log) {
        if (host === "cdn.localhost" && /\.(js|wasm|html)$/.test(path))
          sites.fetched.set(path, readFileSync(join(dist, path)));
      }
    }
    const measured = { [cold ? "coldMs" : "warmMs"]: firstToken };
    let peak = rendererMemory(chromium.pid);
    for (const size of PREFILL) {
      const run = await page.evaluate(inPage.kwaainet, {
        list: messages(size, `${round}x${size}`),
        tokens: DECODE,
      });
      measured[`prefill${size}`] = rate(run.usage.prompt_tokens, run.first);
      if (size === PREFILL[0]) measured.decode = rate(run.usage.completion_tokens - 1, run.rest);
      measured[`promptTokens${size}`] = run.usage.prompt_tokens;
      peak = Math.max(peak, rendererMemory(chromium.pid));
    }
    measured.memory = peak;
    const answer = page.evaluate(inPage.kwaainet, { list: messages(60, `${round}p`), tokens: 2 * DECODE });
    Object.assign(measured, await costOf(page, answer));
    const { value } = await tab.attempt(() => window.kwaainet.capabilities());
    measured.backend = `${value?.host?.backend}, ${value?.host?.threads} threads`;
    return measured;
  };
}

export async function theirs(wllama, rival) {
  return async (chromium, round) => {
    const page = await chromium.context.newPage();
    await watchPage(page);
    await page.goto(`${wllama.origin}/${rival.port}.html`);
    const began = performance.now();
    await page.evaluate(() => window.ready);
    await page.evaluate((prompt) => window.complete(prompt, 1), chatml(messages(60, `${round}w`)));
    const measured = { [round === 0 ? "coldMs" : "warmMs"]: performance.now() - began };
    let peak = rendererMemory(chromium.pid);
    for (const size of PREFILL) {
      const prompt = chatml(messages(size, `${round}x${size}`));
      const run = await page.evaluate(([text, tokens]) => window.complete(text, tokens), [prompt, DECODE]);
      measured[`prefill${size}`] = rate(run.promptTokens, run.first);
      if (size === PREFILL[0]) measured.decode = rate(run.tokens - 1, run.rest);
      measured[`promptTokens${size}`] = run.promptTokens;
      peak = Math.max(peak, rendererMemory(chromium.pid));
    }
    measured.memory = peak;
    const answer = page.evaluate(
      ([text, tokens]) => window.complete(text, tokens),
      [chatml(messages(60, `${round}p`)), 2 * DECODE],
    );
    Object.assign(measured, await costOf(page, answer));
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
export async function serveRivals(model) {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    const file =
      path === "/model.gguf"
        ? model
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

function brotliOf(files) {
  return [...files.values()].reduce((sum, bytes) => sum + brotli(bytes), 0);
}

function rivalBytes({ folder, wasm }) {
  const esm = join(here, "node_modules", folder, "esm");
  const scripts =
    folder === "wllama-1"
      ? ["index.js", "wllama.js", "cache-manager.js", "utils.js", "worker.js"]
      : ["index.min.js"];
  return [...scripts, ...wasm].reduce((sum, file) => sum + brotli(readFileSync(join(esm, file))), 0);
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}
