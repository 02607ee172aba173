/** What happens to 98 MB on their way. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { corrupt, cutAt, replace, slow, unreachable } from "./support/sites.mjs";
import { buckets } from "./support/storage.mjs";
import {
  closeSites,
  dist,
  modelFile,
  newProfile,
  pageWithTag,
  startVisitor,
  theSites,
  until,
} from "./support/world.mjs";

after(closeSites);

const size = 98_362_432;
const chunk = 1 << 20;

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

const gets = (sites) => sites.log.filter(({ path, method }) => modelFile.test(path) && method === "GET");

describe("a download", () => {
  test("survives connections cut at 20, 60 and 99 % and continues where it was", () =>
    withVisitor({}, async (visitor, sites) => {
      const cuts = [0.2, 0.6, 0.99].map((share) => cutAt(modelFile, Math.floor(size * share)));
      for (const cut of cuts) sites.fault(cut);
      // As slow as a fast home connection, so that little is on its way in buffers when it is cut.
      sites.fault(slow(modelFile, 12e6));
      const tab = await visitor.open();
      await tab.accept();
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      assert.ok(
        cuts.every((cut) => cut.done),
        "all three cuts happened",
      );
      assert.ok(gets(sites).length >= 4, "it was asked for again after each cut");
      const sent = sites.bytes(modelFile);
      assert.ok(sent < size + 3 * 4 * chunk, `${sent} bytes were sent for a file of ${size}: it began again`);
    }));

  test("survives a reload in the middle and continues where it was", () =>
    withVisitor({}, async (visitor, sites) => {
      const stop = sites.fault(slow(modelFile, 25e6));
      const tab = await visitor.open({ attributes: { assistant: "" } });
      await tab.accept();
      await until("a third of the model", () => sites.bytes(modelFile) > size / 3, { timeout: 60_000 });
      await tab.page.reload();
      stop();
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      const sent = sites.bytes(modelFile);
      assert.ok(sent < size * 1.25, `${sent} bytes were sent for a file of ${size}: it began again`);
      const resumed = gets(sites).some(({ headers }) => /^bytes=[1-9]/.test(headers.range ?? ""));
      assert.ok(resumed, "the second request began in the middle");
    }));

  test("survives the browser's sudden end and continues where it was", async () => {
    const sites = await theSites();
    sites.reset();
    const stop = sites.fault(slow(modelFile, 25e6));
    const first = await startVisitor();
    const tab = await first.open();
    await tab.accept();
    tab.ask("Hi").catch(() => {});
    await until("a third of the model", () => sites.bytes(modelFile) > size / 3, { timeout: 60_000 });
    await first.chromium.crash();
    stop();
    const sentBefore = sites.bytes(modelFile);
    const second = await startVisitor({ profile: first.profile });
    try {
      const again = await second.open();
      // The agreement was given before the end; nobody is asked twice.
      const { text } = await again.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      const sent = sites.bytes(modelFile);
      assert.ok(sent - sentBefore < size * 0.85, `${sent - sentBefore} bytes were fetched again`);
    } finally {
      await second.close();
    }
  });

  test("wrong bytes are noticed, thrown away and fetched again alone", () =>
    withVisitor({}, async (visitor, sites) => {
      sites.fault(corrupt(modelFile, 40 * chunk + 17, { times: 1 }));
      const tab = await visitor.open();
      await tab.accept();
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      const sent = sites.bytes(modelFile);
      assert.ok(
        sent < size + 24 * chunk,
        `${sent} bytes were sent: more than the bad chunk was fetched again`,
      );
    }));

  test("a server that always sends wrong bytes is told from a broken connection", () =>
    withVisitor({}, async (visitor, sites) => {
      sites.fault(corrupt(modelFile, 3 * chunk + 17));
      const tab = await visitor.open();
      await tab.accept();
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] }),
      );
      assert.equal(error.code, "integrityFailed");
      assert.match(error.message, /wrong bytes/);
    }));

  test("a server that is away gives a named error that may be retried, and a later try works", () =>
    withVisitor({}, async (visitor, sites) => {
      const stop = sites.fault(unreachable(modelFile));
      const tab = await visitor.open();
      await tab.accept();
      const ask = () =>
        window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content: "Hi" }],
          max_tokens: 1,
        });
      const { error } = await tab.attempt(ask);
      assert.equal(error.code, "networkUnreachable");
      assert.equal(error.retryable, true);
      stop();
      const { value } = await tab.attempt(ask);
      assert.equal(value.choices[0].message.role, "assistant");
    }));

  test("a catalogue that somebody else signed is refused before anything else is fetched", () =>
    withVisitor({}, async (visitor, sites) => {
      const signed = readFileSync(join(dist, "models.json"), "utf8");
      const other = signed.replace("SmolLM2 135M", "SmolLM9 135M");
      assert.notEqual(other, signed);
      sites.fault(replace(/models\.json$/, other));
      const tab = await visitor.open();
      await tab.accept();
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] }),
      );
      assert.equal(error.code, "catalogueInvalid");
      assert.equal(sites.bytes(modelFile), 0);
    }));

  test("a full device is explained with numbers, and what had arrived stays usable", () =>
    withVisitor({}, async (visitor, sites) => {
      // A quota can be set for a first party only, so the site hosts our files itself here.
      const html = pageWithTag("", {});
      const url = sites.page("/full.html", html, { host: "cdn.localhost" });
      const tab = await visitor.open();
      await tab.page.goto(url);
      const session = await visitor.context.newCDPSession(tab.page);
      await session.send("Storage.overrideQuotaForOrigin", { origin: sites.cdn, quotaSize: 60e6 });
      await until("our frame", () => tab.page.frames().length > 1);
      tab.frame = async () => tab.page.frames().find((frame) => frame !== tab.page.mainFrame());
      await tab.accept();
      const ask = () =>
        window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content: "Hi" }],
          max_tokens: 1,
        });
      const { error } = await tab.attempt(ask);
      assert.equal(error?.code, "storageFull", JSON.stringify(error));
      assert.match(error.message, /\d+ ?(MB|MiB)/);
      await session.send("Storage.overrideQuotaForOrigin", { origin: sites.cdn, quotaSize: 1e9 });
      const { value } = await tab.attempt(ask);
      assert.equal(value?.choices[0].message.role, "assistant", "and it goes on when there is room");
    }));

  test("the model's file on the server is the one of this test", () => {
    const { pathname } = new URL("../../.cache/models/smollm2-135m-instruct-q4_1.gguf", import.meta.url);
    assert.equal(statSync(pathname).size, size);
  });
});

describe("where storage is denied", () => {
  test("the model lives in memory, and the capabilities say so", () =>
    withVisitor({}, async (visitor) => {
      const denyStorage = () => {
        const denied = () => Promise.reject(new DOMException("denied", "SecurityError"));
        Object.defineProperty(StorageManager.prototype, "getDirectory", { value: denied });
      };
      const tab = await visitor.open({
        before: async (page) => {
          await page.addInitScript(denyStorage);
          page.on("worker", (worker) => worker.evaluate(denyStorage).catch(() => {}));
        },
      });
      await tab.accept();
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      const { value } = await tab.attempt(() => window.kwaainet.capabilities());
      assert.equal(value.host.storage, "memory");
      const held = await buckets(await tab.frame()).catch(() => null);
      assert.ok(held === null || held.opfs.length === 0);
    }));

  test("by the browser's own setting, everything works for as long as the page is open", () =>
    withVisitor({ profile: profileWithoutStorage() }, async (visitor) => {
      const tab = await visitor.open();
      assert.equal(
        await tab.page.evaluate(() => navigator.storage.getDirectory().catch(({ name }) => name)),
        "SecurityError",
        "the setting is in force",
      );
      await tab.accept();
      const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
      assert.match(text, /Paris/);
      const { value } = await tab.attempt(() => window.kwaainet.capabilities());
      assert.equal(value.host.storage, "memory");
    }));
});

/** "Block all cookies", which keeps sites from storing anything at all. */
function profileWithoutStorage() {
  const profile = newProfile();
  mkdirSync(join(profile, "Default"));
  const preferences = { profile: { default_content_setting_values: { cookies: 2 } } };
  writeFileSync(join(profile, "Default/Preferences"), JSON.stringify(preferences));
  return profile;
}
