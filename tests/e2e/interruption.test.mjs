/** Anything may die in the middle of an answer; the text must equal the uninterrupted one, and nobody is asked twice. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import * as drawn from "./support/drawn.mjs";
import { closeSites, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

const question = "Write a short story about a lighthouse keeper and a cat.";
const request = { max_tokens: 48, temperature: 0.8, seed: 42 };

async function withVisitor(options, run) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor({ warm: true, ...options });
  try {
    await run(visitor, sites);
  } finally {
    await visitor.close();
  }
}

/** The answer that nothing interrupts; the same seed makes it the one that all others must equal. */
async function uninterrupted(tab) {
  const { text } = await tab.ask(question, request);
  assert.ok(text.length > 80, `too short to be interrupted: ${text}`);
  return text;
}

async function nobodyWasAsked(tab) {
  const nodes = await drawn.tree(tab.page, await tab.frame());
  assert.ok(
    !nodes.some(({ role, name }) => role === "button" && name === "Accept"),
    "the panel is open again",
  );
}

describe("in the middle of an answer", () => {
  test("the worker is killed", () =>
    withVisitor({}, async (visitor) => {
      const tab = await visitor.open();
      const expected = await uninterrupted(tab);
      const { outcome } = await tab.askAndWaitFor(6, question, request);
      const [worker] = tab.page.workers();
      assert.ok(worker, "there is a worker to kill");
      await worker.evaluate(() => self.close());
      assert.equal((await outcome).text, expected);
      await nobodyWasAsked(tab);
    }));

  test("the frame is reloaded", () =>
    withVisitor({}, async (visitor) => {
      const tab = await visitor.open();
      const expected = await uninterrupted(tab);
      const { outcome } = await tab.askAndWaitFor(6, question, request);
      await (await tab.frame()).evaluate(() => location.reload()).catch(() => {});
      assert.equal((await outcome).text, expected);
      await nobodyWasAsked(tab);
    }));

  test("the frame is removed from the page", () =>
    withVisitor({}, async (visitor) => {
      const tab = await visitor.open();
      const expected = await uninterrupted(tab);
      const { outcome } = await tab.askAndWaitFor(6, question, request);
      await tab.page.evaluate(() => document.querySelector("iframe").remove());
      assert.equal((await outcome).text, expected);
    }));

  test("the service worker that hosts the node is killed", () =>
    withVisitor({}, async (visitor) => {
      const tab = await visitor.open({ attributes: { host: "service-worker" } });
      const expected = await uninterrupted(tab);
      const { outcome } = await tab.askAndWaitFor(6, question, request);
      const session = await visitor.context.newCDPSession(tab.page);
      await session.send("ServiceWorker.enable");
      await session.send("ServiceWorker.stopAllWorkers");
      assert.equal((await outcome).text, expected);
      await nobodyWasAsked(tab);
    }));

  test("the service worker of the front door is killed, and the answer does not notice", () =>
    withVisitor({}, async (visitor) => {
      const tab = await visitor.open();
      const expected = await uninterrupted(tab);
      const { outcome } = await tab.askAndWaitFor(6, question, request);
      const session = await visitor.context.newCDPSession(tab.page);
      await session.send("ServiceWorker.enable");
      await session.send("ServiceWorker.stopAllWorkers");
      assert.equal((await outcome).text, expected);
    }));
});

describe("two tabs", () => {
  test("share one engine, and both are answered", () =>
    withVisitor({}, async (visitor) => {
      const one = await visitor.open({ path: "/one" });
      const expected = await uninterrupted(one);
      const two = await visitor.open({ path: "/two" });
      const answers = await Promise.all([one.ask(question, request), two.ask(question, request)]);
      assert.deepEqual(
        answers.map(({ text }) => text),
        [expected, expected],
      );
      const capabilities = await Promise.all(
        [one, two].map((tab) => tab.attempt(() => window.kwaainet.capabilities())),
      );
      assert.ok(
        capabilities.every(({ value }) => value),
        JSON.stringify(capabilities),
      );
      const frames = await Promise.all([one.frame(), two.frame()]);
      const locks = await frames[0].evaluate(() => navigator.locks.query());
      const holders = locks.held.filter(({ name }) => name === "kwaainet-node");
      assert.equal(holders.length, 1, "one engine for both");
    }));

  test("the tab with the engine is closed in the middle of the other one's answer", () =>
    withVisitor({}, async (visitor) => {
      const leader = await visitor.open({ path: "/one" });
      const expected = await uninterrupted(leader);
      const follower = await visitor.open({ path: "/two" });
      const { outcome } = await follower.askAndWaitFor(6, question, request);
      await leader.close();
      assert.equal((await outcome).text, expected);
      await nobodyWasAsked(follower);
    }));

  test("agreeing in one tab answers the question in the other", () =>
    withVisitor({ warm: false }, async (visitor) => {
      const one = await visitor.open({ path: "/one" });
      const two = await visitor.open({ path: "/two" });
      await one.page.bringToFront();
      await one.accept();
      await one.ask("Hi", { max_tokens: 1 });
      const status = await until("consent in the second tab", async () => {
        const { value } = await two.attempt(() => window.kwaainet.consent.status());
        return JSON.stringify(value).includes("runAi") && value;
      });
      assert.ok(status);
      const { text } = await two.ask("Hi", { max_tokens: 4 });
      assert.notEqual(text, "");
    }));

  test("withdrawing in one tab ends it in the other", () =>
    withVisitor({}, async (visitor) => {
      const one = await visitor.open({ path: "/one", attributes: { assistant: "" } });
      const two = await visitor.open({ path: "/two", attributes: { assistant: "" } });
      await two.ask("Hi", { max_tokens: 1 });
      await one.page.bringToFront();
      await one.click("button", /Ask the assistant/);
      await one.click("button", "Settings");
      await one.click("button", "Withdraw");
      await until("the end of consent in the second tab", async () => {
        const { value } = await two.attempt(() => window.kwaainet.consent.status());
        return !JSON.stringify(value).includes("runAi");
      });
    }));
});
