/** What a visitor is promised about consent. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buckets, nothing } from "./support/storage.mjs";
import { closeSites, modelFile, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

async function withVisitor(options, run) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor(options);
  try {
    await run(visitor, sites);
  } finally {
    await visitor.close();
  }
}

/** What our origin is asked for before anybody agreed to anything. */
const beforeConsent =
  /^\/(sovereign-ai\.js|frame\.html|assets\/(frame|panel|shared)-[\w-]+\.js|favicon\.ico)$/;

describe("until Accept", () => {
  test("nothing is stored, fetched or computed", () =>
    withVisitor({}, async (visitor, sites) => {
      const tab = await visitor.open({ attributes: { assistant: "" } });
      await tab.panel();
      // A question before consent waits, and computes nothing.
      await tab.page.evaluate(() => {
        window.kwaainet.chat.completions
          .create({ messages: [{ role: "user", content: "Hi" }] })
          .catch(() => {});
      });
      await sleep(3000);
      const asked = sites.log.filter(({ host }) => host === "cdn.localhost").map(({ path }) => path);
      assert.deepEqual(
        asked.filter((path) => !beforeConsent.test(path)),
        [],
        "only the loader, the frame and the panel are fetched",
      );
      assert.ok(asked.includes("/frame.html"), "the test looked at the right server");
      const frame = await tab.frame();
      assert.deepEqual(await buckets(frame), nothing, "our origin stored nothing");
      assert.deepEqual(await buckets(tab.page), nothing, "the site's origin stored nothing");
      assert.equal(tab.page.workers().length, 0, "no worker runs");
      assert.deepEqual(await visitor.context.cookies(), []);
      const session = await visitor.chromium.browser.newBrowserCDPSession();
      const { targetInfos } = await session.send("Target.getTargets");
      const workers = targetInfos.filter(({ type }) => /worker/.test(type));
      assert.deepEqual(workers, [], "no worker of any kind");
    }));

  test("a refusal stores nothing, and the site learns only the outcome", () =>
    withVisitor({}, async (visitor, sites) => {
      const tab = await visitor.open();
      const waiting = tab.attempt(() =>
        window.kwaainet.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] }),
      );
      await tab.decide("Reject");
      const { error } = await waiting;
      assert.equal(error.code, "consentRequired");
      await sleep(500);
      assert.deepEqual(await buckets(await tab.frame()), nothing);
      assert.equal(sites.bytes(modelFile), 0);
    }));
});

describe("after Accept", () => {
  test("the model comes with progress, the answer streams, and a receipt says where it was computed", () =>
    withVisitor({}, async (visitor, sites) => {
      sites.fault((await import("./support/sites.mjs")).slow(modelFile, 30e6));
      const tab = await visitor.open({ attributes: { assistant: "" } });
      await tab.accept();
      await tab.find("progressbar", /./, { timeout: 15_000 });
      const during = await until("a progress text with MB", async () => {
        const text = await tab.text();
        return /\d.*MB/.test(text) && text;
      });
      assert.match(during, /MB/);
      await tab.click("button", "Ask the assistant", { timeout: 60_000 });
      await tab.click("textbox", "Your message");
      await tab.page.keyboard.type("What is the capital of France? Answer in one sentence.");
      await tab.page.keyboard.press("Enter");
      await tab.find("button", "Stop", { timeout: 60_000 });
      const receipt = await until(
        "a receipt",
        async () => {
          const text = await tab.text();
          return /Ran on this device/.test(text) && text;
        },
        { timeout: 60_000 },
      );
      assert.match(receipt, /Nothing left this device/);
      assert.match(receipt, /tokens?\/s/);
      const builds = sites.log.filter(({ path }) => path.endsWith(".wasm"));
      assert.equal(builds.length, 1, "one build of the node was fetched, once");
      const posts = sites.log.filter(({ method }) => method !== "GET" && method !== "HEAD");
      assert.deepEqual(posts, [], "nothing was sent anywhere");
    }));

  test("Stop works at once", () =>
    withVisitor({ warm: true }, async (visitor) => {
      const tab = await visitor.open();
      const result = await tab.attempt(async () => {
        const control = new AbortController();
        const stream = await window.kwaainet.chat.completions.create(
          { messages: [{ role: "user", content: "Count to a thousand." }], stream: true, max_tokens: 400 },
          { signal: control.signal },
        );
        let pieces = 0;
        let stopped = 0;
        try {
          for await (const chunk of stream) {
            pieces += chunk.choices[0]?.delta?.content ? 1 : 0;
            if (pieces === 2) {
              stopped = performance.now();
              control.abort();
            }
          }
        } catch (error) {
          return { code: error.code ?? error.name, ms: performance.now() - stopped, pieces };
        }
        return { pieces };
      });
      assert.match(String(result.value?.code), /cancelled|AbortError/);
      assert.ok(result.value.ms < 300, `took ${result.value.ms} ms`);
    }));

  test("after a reload the model comes from the device: no model byte on the network", () =>
    withVisitor({ warm: true }, async (visitor, sites) => {
      const tab = await visitor.open();
      const first = await tab.ask("What is the capital of France? Answer in one sentence.");
      await tab.page.reload();
      const second = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.equal(first.text, second.text);
      assert.notEqual(first.text, "");
      assert.equal(sites.bytes(modelFile), 0);
    }));

  test("Withdraw is one click from the assistant and deletes the model and everything else", () =>
    withVisitor({ warm: true }, async (visitor) => {
      const tab = await visitor.open({ attributes: { assistant: "" } });
      await tab.ask("Hi", { max_tokens: 1 });
      const frame = await tab.frame();
      assert.ok(
        (await buckets(frame)).opfs.some((name) => name.endsWith(".gguf")),
        "the model was there",
      );
      await tab.click("button", /Ask the assistant/);
      await tab.click("button", "Withdraw");
      await tab.gone("button", "Withdraw");
      // A deleted cache is freed when the unregistered service worker ends; a debugger, such as this test, keeps it alive.
      const session = await visitor.context.newCDPSession(tab.page);
      await session.send("ServiceWorker.enable");
      let now;
      const left = await until("everything deleted", async () => {
        // Again each time: one that is being unregistered may yet be started by what it is asked meanwhile.
        await session.send("ServiceWorker.stopAllWorkers");
        now = await buckets(frame);
        return now.opfs.length === 0 && now.serviceWorkers.length === 0 && now.usage < 1e6 && now;
      }).catch((error) => {
        throw new Error(`${error.message}: ${JSON.stringify(now)}`);
      });
      assert.deepEqual({ ...left, usage: 0, locks: [] }, nothing);
      assert.ok(left.usage < 1e6, `${left.usage} bytes are still in use`);
      const { error } = await tab.attempt(() => window.kwaainet.consent.status());
      assert.equal(error, undefined);
    }));

  test("no cookie is ever set", () =>
    withVisitor({ warm: true }, async (visitor, sites) => {
      const tab = await visitor.open({ attributes: { assistant: "" } });
      await tab.ask("Hi", { max_tokens: 2 });
      assert.deepEqual(await visitor.context.cookies(), []);
      assert.deepEqual(
        sites.log.filter(({ headers }) => headers.cookie).map(({ path }) => path),
        [],
      );
      assert.ok(readdirSync(join(visitor.profile, "Default")).length > 0);
    }));
});
