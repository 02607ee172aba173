/**
 * What may happen to an engine at work: a thread dies, the browser freezes the page, the question is taken back. (A page that
 * is driven by a test is never hidden in Chromium, so that freezing, which comes after hiding, has to do.)
 */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { processors } from "./support/browser.mjs";
import { closeSites, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

const isolated = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};
/** Some 500 tokens: seconds of reading on a slow machine. */
const long = `${"The keeper looked at the sea. ".repeat(60)}Write a short story about a lighthouse keeper.`;
const request = { max_tokens: 8 };

async function withTab(options, run) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor({ warm: true });
  try {
    const tab = await visitor.open(options);
    await run(tab, visitor);
  } finally {
    await visitor.close();
  }
}

/** The answer that nothing disturbs. Afterwards the engine has another conversation in mind, so that it reads all again. */
async function undisturbed(tab) {
  const { text } = await tab.ask(long, request);
  assert.notEqual(text, "");
  await tab.ask("Hi", { max_tokens: 1 });
  return text;
}

/** Ends the execution of a thread of the engine's pool wherever it is, as a browser that is out of memory does. */
async function poolThread(tab, visitor) {
  const session = await visitor.context.newCDPSession(await tab.frame());
  const attach = { autoAttach: true, waitForDebuggerOnStart: false, flatten: false };
  const targets = {};
  let id = 0;
  const inWorker = (method, params = {}) => {
    id += 1;
    const message = JSON.stringify({ id, method, params });
    return session.send("Target.sendMessageToTarget", { sessionId: targets.kwaainet, message });
  };
  const attached = ({ sessionId, targetInfo }) => {
    targets[targetInfo.title] = sessionId;
  };
  session.on("Target.attachedToTarget", attached);
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { method, params } = JSON.parse(message);
    if (method === "Target.attachedToTarget") attached(params);
  });
  await session.send("Target.setAutoAttach", attach);
  await until("the engine's worker", () => targets.kwaainet);
  await inWorker("Target.setAutoAttach", attach);
  await until("a thread of its pool", () => targets["kwaainet-pool"]);
  return {
    kill: () =>
      inWorker("Target.sendMessageToTarget", {
        sessionId: targets["kwaainet-pool"],
        message: JSON.stringify({ id: 0, method: "Runtime.terminateExecution" }),
      }),
  };
}

describe("in the middle of a prompt", () => {
  test("a thread of the pool dies", { skip: processors < 2 ? "one processor has no pool" : false }, () =>
    withTab({ headers: isolated }, async (tab, visitor) => {
      const expected = await undisturbed(tab);
      const { value } = await tab.attempt(() => window.kwaainet.capabilities());
      assert.ok(value.host.threads > 1, JSON.stringify(value.host));
      const thread = await poolThread(tab, visitor);
      const answer = tab.ask(long, request);
      await sleep(600);
      await thread.kill();
      // It dies between two computations and is done without, or in one of them: then a new node takes over.
      assert.equal((await answer).text, expected);
      assert.equal((await tab.ask(long, request)).text, expected);
    }),
  );

  test("the browser freezes the page, and wakes it up 3 seconds later", () =>
    withTab({ headers: isolated }, async (tab, visitor) => {
      const expected = await undisturbed(tab);
      const session = await visitor.context.newCDPSession(tab.page);
      const answer = tab.ask(long, request);
      await sleep(300);
      await session.send("Page.setWebLifecycleState", { state: "frozen" });
      await sleep(3000);
      await session.send("Page.setWebLifecycleState", { state: "active" });
      assert.equal((await answer).text, expected);
    }));

  test("the question is taken back: the next one does not wait for it", () =>
    withTab({ attributes: { "context-length": "4608", "kv-cache": "q8" } }, async (tab) => {
      await tab.ask("Hi", { max_tokens: 1 });
      const taken = await tab.attempt(async (sentence) => {
        const control = new AbortController();
        const messages = [{ role: "user", content: sentence.repeat(560) }];
        const reading = window.kwaainet.chat.completions.create({ messages }, { signal: control.signal });
        reading.catch(() => {});
        await new Promise((done) => setTimeout(done, 1500));
        control.abort();
        const before = performance.now();
        // Answered by the node itself, so it has got hold of its thread.
        await window.kwaainet.capabilities();
        const heardMs = performance.now() - before;
        const outcome = await reading.then(
          () => "answered",
          ({ code }) => code,
        );
        return { outcome, heardMs };
      }, "The keeper looked at the sea. ");
      assert.equal(taken.value?.outcome, "cancelled", JSON.stringify(taken));
      console.log(
        `  a prompt of some 4,000 tokens taken back: heard within ${taken.value.heardMs.toFixed(0)} ms`,
      );
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
    }));
});

test("a model that does not fit the memory cap is refused with a way out, and nothing is broken", () =>
  withTab({ attributes: { "max-resources": "memory:64" } }, async (tab) => {
    for (let times = 0; times < 2; times += 1) {
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] }),
      );
      assert.equal(error?.code, "outOfMemory", JSON.stringify(error));
      assert.match(error.message, /smaller model|shorter context|more memory/);
    }
  }));
