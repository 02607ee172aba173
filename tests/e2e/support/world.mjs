/** One test's world: the two sites, a browser with a profile of its own, and what a visitor does in it. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as demo from "@kwaainet/demo-site";
import { startChromium } from "./browser.mjs";
import * as drawn from "./drawn.mjs";
import { startSites } from "./sites.mjs";

/** What the build made; another build can be named, for comparing two of them. */
export const dist = process.env.KWAAINET_DIST ?? join(import.meta.dirname, "../../../cdn/dist");

export const MODEL = "smollm2-135m-instruct-q4_1";
export const modelFile = /\.gguf$/;

// Storage belongs to an origin, ports included: profiles can be shared by test files only if the port is the same.
const folder = process.env.KWAAINET_E2E_FOLDER ?? mkdtempSync(join(tmpdir(), "kwaainet-e2e-"));
const port = Number(process.env.KWAAINET_E2E_PORT ?? 0);
if (!process.env.KWAAINET_E2E_FOLDER)
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

let sites = null;

/** The sites of this process, started once. */
export async function theSites() {
  if (sites === null) {
    const inner = await demo.createServer({ port: 0, listen: false, dist });
    sites = await startSites({ port, inner: inner.server ?? inner });
  }
  return sites;
}

export async function closeSites() {
  await sites?.close();
  sites = null;
}

/** The plainest page that has the tag. */
export function pageWithTag(origin, attributes = {}, { head = "", body = "" } = {}) {
  const data = Object.entries(attributes)
    .map(([name, value]) => ` data-${name}${value === "" ? "" : `="${value}"`}`)
    .join("");
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>${head}</head>
<body><h1>A page</h1><p>It was here before.</p>${body}<script src="${origin}/sovereign-ai.js"${data}></script></body></html>`;
}

/**
 * @param {{warm?: boolean, profile?: string, args?: string[]}} [options] `warm`: the visitor agreed earlier and the model is
 * on the device.
 */
export async function startVisitor({ warm = false, profile = newProfile(), args = [] } = {}) {
  const world = await theSites();
  // With the times of its folders: Chromium takes a cache in a younger folder for damaged, and counts it twice.
  if (warm) execFileSync("cp", ["-a", `${await warmProfile()}/.`, profile]);
  const chromium = await startChromium({ profile, args });
  return new Visitor(world, chromium, profile);
}

export function newProfile() {
  return mkdtempSync(join(folder, "profile-"));
}

async function warmProfile() {
  const warm = join(folder, "warm");
  if (existsSync(join(warm, "ready"))) return warm;
  rmSync(warm, { recursive: true, force: true });
  const visitor = await startVisitor({ profile: warm });
  try {
    const tab = await visitor.open();
    await tab.accept();
    await tab.ask("Hi", { max_tokens: 1 });
  } finally {
    await visitor.close({ keep: true });
  }
  mkdirSync(join(warm, "ready"));
  return warm;
}

class Visitor {
  constructor(world, chromium, profile) {
    this.sites = world;
    this.chromium = chromium;
    this.profile = profile;
  }

  get context() {
    return this.chromium.context;
  }

  /** Opens a page with the tag (or `html`) in a new tab. */
  async open({ path = "/page", attributes = {}, html, headers = {}, before } = {}) {
    const page = await this.context.newPage();
    page.setDefaultTimeout(30_000);
    const tab = new Tab(this.sites, page);
    if (before) await before(page);
    const url = this.sites.page(path, html ?? pageWithTag(this.sites.cdn, attributes), { headers });
    await page.goto(url);
    return tab;
  }

  async close({ keep = false } = {}) {
    await this.chromium.close();
    if (!keep) rmSync(this.profile, { recursive: true, force: true });
  }
}

export class Tab {
  constructor(world, page) {
    this.sites = world;
    this.page = page;
    this.messages = [];
    page.on("console", (message) => this.messages.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => this.messages.push(`uncaught: ${error.message}`));
  }

  frame() {
    return drawn.ourFrame(this.page, this.sites.cdn);
  }

  async text() {
    return drawn.textOf(this.page, await this.frame());
  }

  async find(role, name, options) {
    return drawn.find(this.page, await this.frame(), role, name, options);
  }

  async click(role, name, options) {
    return drawn.click(this.page, await this.frame(), role, name, options);
  }

  /** Opens the panel unless it is open. */
  async panel() {
    await this.page.evaluate(() => {
      void window.kwaainet.consent.ask();
    });
    return this.find("button", "Accept");
  }

  /** Clicks on a button of the panel after it has been in sight long enough to count. */
  async decide(button) {
    await this.panel();
    await sleep(1200);
    await this.click("button", button);
    await this.gone("button", button);
  }

  async accept() {
    await this.decide("Accept");
  }

  /** Chooses what is allowed, switch by switch. */
  async choose(...switches) {
    await this.panel();
    await this.click("button", "Choose");
    for (const name of switches) await this.click("switch", name);
    await sleep(1200);
    await this.click("button", "Save choice");
    await this.gone("button", "Save choice");
  }

  async gone(role, name, { timeout = 10_000 } = {}) {
    const until = Date.now() + timeout;
    const frame = await this.frame();
    while ((await drawn.tree(this.page, frame)).some((node) => node.role === role && node.name === name)) {
      if (Date.now() > until) throw new Error(`${role} ${name} is still there: ${await this.text()}`);
      await sleep(100);
    }
  }

  /** Asks through the site's API; greedy, so the answer is always the same. */
  ask(content, { key, ...request } = {}) {
    const answer = this.page.evaluate(
      async ({ content, request, key }) => {
        const pieces = [];
        const state = { pieces, done: false };
        if (key) window[key] = state;
        const stream = await window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content }],
          stream: true,
          temperature: 0,
          max_tokens: 16,
          ...request,
        });
        let finish = null;
        for await (const chunk of stream) {
          const choice = chunk.choices[0];
          if (choice?.delta?.content) pieces.push(choice.delta.content);
          finish = choice?.finish_reason ?? finish;
        }
        state.done = true;
        return { text: pieces.join(""), pieces: pieces.length, finish };
      },
      { content, request, key },
    );
    return within(PATIENCE_MS, `an answer to ${JSON.stringify(content.slice(0, 40))}`, answer);
  }

  /** Starts a question and waits until `pieces` pieces of its answer have come. Returns its promise. */
  async askAndWaitFor(pieces, content, request = {}) {
    const key = `answer${Math.random().toString(36).slice(2)}`;
    const outcome = this.ask(content, { ...request, key });
    outcome.catch(() => {});
    await this.page.waitForFunction(
      ([name, count]) => (window[name]?.pieces.length ?? 0) >= count,
      [key, pieces],
      { timeout: 60_000, polling: 20 },
    );
    return { outcome };
  }

  /** Runs in the page and returns `{value}`, or `{error: {name, code, message, retryable}}` of what was thrown. */
  attempt(body, argument) {
    const outcome = this.page.evaluate(`(async () => {
      try {
        return { value: await (${body})(${JSON.stringify(argument) ?? ""}) };
      } catch (error) {
        const { name, code, message, retryable } = error;
        return { error: { name, code, message, retryable } };
      }
    })()`);
    return within(PATIENCE_MS, String(body).slice(0, 120), outcome);
  }

  /** Everything that was said on the console and matches. */
  said(pattern) {
    return this.messages.filter((message) => pattern.test(message));
  }

  async close() {
    await this.page.close();
  }
}

/** Longer than anything that works takes on two busy processors. */
const PATIENCE_MS = 90_000;

function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(reject, ms, new Error(`nothing within ${ms / 1000} s: ${what}`));
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Polls until `check` returns something true. */
export async function until(what, check, { timeout = 20_000, every = 100 } = {}) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${timeout / 1000} s`);
    await sleep(every);
  }
}

/** Nothing listens here; for tests that need an address which refuses. */
export async function freePort() {
  const server = createServer();
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const { port: free } = server.address();
  await new Promise((done) => server.close(done));
  return free;
}
