/** This engine, wllama and candle in the same Chromium, on the same file, one after the other. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as demo from "@kwaainet/demo-site";
import { buildCdn } from "../../cdn/build.mjs";
import { rendererMemory, startChromium } from "../e2e/support/browser.mjs";
import { pageCost, watchPage } from "../e2e/support/page-cost.mjs";
import { startSites } from "../e2e/support/sites.mjs";
import { pageWithTag, Tab } from "../e2e/support/world.mjs";
import { pathOf } from "./cases.mjs";
import { chatml, DECODE, messages, PREFILL, question } from "./prompts.mjs";
import { serveRivals } from "./serve.mjs";
import { brotliOf } from "./sizes.mjs";
import { tokensOf } from "./tokens.mjs";
import { candleVersion, wasmFolder } from "./wasm.mjs";

const modules = join(import.meta.dirname, "node_modules");
const wllama1 = ["index.js", "wllama.js", "cache-manager.js", "utils.js", "worker.js"];

/** `alone`: has one thread, so it is measured where there is one processor. `tokens`: gets tokens instead of text. */
const rivals = {
  "wllama 3.8.1": {
    page: "wllama3.html",
    folder: join(modules, "@wllama/wllama/esm"),
    files: ["index.min.js", "wasm/wllama.wasm"],
  },
  "wllama 1.17.1": {
    page: "wllama1.html",
    folder: join(modules, "wllama-1/esm"),
    files: [...wllama1, "multi-thread/wllama.wasm"],
  },
  [`candle ${candleVersion()}`]: {
    page: "wasm.html",
    query: "&engine=candle",
    folder: join(wasmFolder, "candle"),
    files: ["kwaainet.js", "kwaainet_bg.wasm"],
    alone: true,
    tokens: true,
  },
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
  const site = await serveRivals();
  const engines = { KwaaiNet: { run: ours(sites, dist) } };
  for (const [engine, rival] of Object.entries(rivals)) {
    engines[engine] = { run: theirs(site, rival), alone: rival.alone };
  }
  const results = Object.fromEntries(cases.map(({ title }) => [title, {}]));
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const [at, one] of cases.entries()) {
        for (const [engine, { run, alone }] of Object.entries(engines)) {
          if (alone && one.processors > 1) continue;
          results[one.title][engine] ??= [];
          const profile = join(folder, `${at}-${engine.replace(/\W/g, "-")}`);
          const chromium = await startChromium({ profile, processors: one.processors });
          try {
            const measured = await run(chromium, round, one);
            log(`  ${one.title}, ${engine}: ${JSON.stringify(measured)}`);
            results[one.title][engine].push(measured);
          } catch (error) {
            const why = error.message.split("\n")[0].replace(/^page\.evaluate: (Error: )?/, "");
            log(`  ${one.title}, ${engine}: failed: ${error.message}`);
            results[one.title][engine].push({ failed: /^out of memory/.exec(why)?.[0] ?? "failed", why });
          } finally {
            await chromium.close();
          }
        }
      }
    }
    return results;
  } finally {
    await sites.close();
    await site.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** When an answer was asked for, and when its first and its last piece came, by the page's clock. */
const inPage = {
  kwaainet: async ({ list, tokens }) => {
    // The node runs, so that the first question waits for the model alone. (Before consent it answers nothing.)
    await window.kwaainet.capabilities().catch(() => {});
    const began = performance.now();
    let [first, last, usage] = [0, 0, null];
    const stream = await window.kwaainet.chat.completions.create({
      messages: list,
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0,
      // The others guess nothing ahead.
      guesses: 0,
      max_tokens: tokens,
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) {
        last = performance.now();
        first ||= last;
      }
      usage = chunk.usage ?? usage;
    }
    // Nothing came in a piece of its own.
    last ||= performance.now();
    first ||= last;
    return { began, first, last, tokens: usage.completion_tokens, promptTokens: usage.prompt_tokens };
  },
};

function ours(sites, dist) {
  return async (chromium, round, one) => {
    const page = await chromium.context.newPage();
    const tab = new Tab(sites, page);
    const url = sites.page("/bench", pageWithTag(sites.cdn, { model: one.model.id }));
    sites.log.length = 0;
    await watchPage(page);
    await page.goto(url);
    let agreed = 0;
    if (round === 0) {
      await tab.panel();
      // A panel that has just come takes no click.
      await sleep(1200);
      agreed = await page.evaluate(() => performance.now());
      await tab.click("button", "Accept");
    }
    const ask = (list, tokens) => page.evaluate(inPage.kwaainet, { list, tokens });
    const loaded = () => {
      const fetched = sites.log.filter(({ host, path }) => host === "cdn.localhost" && shipped.test(path));
      return brotliOf(dist, [...new Set(fetched.map(({ path }) => path))]);
    };
    const how = { page, ask, round, one, agreed, loadsWhenAsked: true, shippedBytes: loaded };
    const measured = await measure(how, chromium);
    const { value } = await tab.attempt(() => window.kwaainet.capabilities());
    const threads = value?.host?.threads;
    return {
      ...measured,
      backend: `${value?.host?.backend}, ${threads} thread${threads === 1 ? "" : "s"}`,
    };
  };
}

/** Code, as opposed to the model. */
const shipped = /\.(js|wasm|html)$/;

function theirs(site, rival) {
  return async (chromium, round, one) => {
    const asked = asksOf(rival, round, one);
    const page = await chromium.context.newPage();
    await watchPage(page);
    await page.goto(`${site.origin}/${rival.page}?model=${one.model.file}${rival.query ?? ""}`);
    const ask = async (list, count) => {
      return page.evaluate(
        async ([what, tokens]) => {
          await window.ready;
          return window.complete(what, tokens);
        },
        [asked(list), count],
      );
    };
    const shippedBytes = () => brotliOf(rival.folder, rival.files);
    const measured = await measure({ page, ask, round, one, agreed: 0, shippedBytes }, chromium);
    return { ...measured, backend: await page.evaluate(() => window.backend()) };
  };
}

/** What a rival is asked for messages: their text, or their tokens, which are made before any clock runs. */
function asksOf(rival, round, { model, sizes }) {
  if (!rival.tokens) return chatml;
  const texts = Object.values(questions(round, sizes)).map(chatml);
  const tokens = tokensOf(pathOf(model), texts);
  return (list) => tokens[texts.indexOf(chatml(list))];
}

/** Everything that is asked in a round. */
const questions = (round, sizes) => ({
  first: question(`${round}w`),
  clicks: question(`${round}p`),
  ...Object.fromEntries(sizes.map((size) => [size, messages(size, `${round}x${size}`)])),
});

/**
 * What is measured of every engine, in this order. `agreed`: when the page had leave to fetch the model, in milliseconds
 * after it was opened; the others ask nobody. `loadsWhenAsked`: the model is loaded for the first question, not before it.
 */
async function measure({ page, ask, round, one, agreed, loadsWhenAsked, shippedBytes }, chromium) {
  const watch = watchMemory(chromium.pid);
  const asked = questions(round, one.sizes);
  const measured = {};
  try {
    const { began, first, promptTokens } = await ask(asked.first, 1);
    measured[round === 0 ? "coldMs" : "warmMs"] = first - agreed;
    if (round > 0 && loadsWhenAsked) measured.loadMs = first - began;
    measured.firstTokens = promptTokens;
    if (one.whole && round === 0) measured.shipped = shippedBytes();
    for (const size of one.sizes) {
      const run = await ask(asked[size], DECODE);
      measured[`prefill${size}`] = rate(run.promptTokens, run.first - run.began);
      if (size === PREFILL[0]) measured.decode = rate(run.tokens - 1, run.last - run.first);
      measured[`promptTokens${size}`] = run.promptTokens;
    }
  } finally {
    measured[round === 0 ? "coldMemory" : "memory"] = watch.stop();
  }
  if (one.whole) {
    const { longTasks, slowest } = await pageCost(page, ask(asked.clicks, 2 * DECODE));
    Object.assign(measured, { longTasks: longTasks.length, slowestMs: slowest });
  }
  return measured;
}

/** The most that the browser's renderers have had at once; looked at from another process, some times a second. */
function watchMemory(pid) {
  let peak = 0;
  const look = () => {
    peak = Math.max(peak, rendererMemory(pid));
  };
  const timer = setInterval(look, 250);
  return {
    stop() {
      clearInterval(timer);
      look();
      return peak;
    },
  };
}

const rate = (tokens, ms) => (tokens * 1000) / ms;
