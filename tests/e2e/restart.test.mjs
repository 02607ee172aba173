/** A browser that is closed and started again has kept more than the model: the code that it compiled. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { closeSites, newProfile, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

/** Chromium keeps code once it has optimised a megabyte of it; which conversation brings that is not what is tested. */
const keepsSoon = ["--js-flags=--wasm-caching-hard-threshold=200000"];

/** Names of what the browser says of its wasm while `run` runs. */
async function wasmEvents({ browser }, run) {
  const session = await browser.newBrowserCDPSession();
  const names = new Set();
  session.on("Tracing.dataCollected", ({ value }) => {
    for (const { name } of value) if (/^v8\.wasm\./.test(name)) names.add(name);
  });
  const complete = new Promise((done) => session.once("Tracing.tracingComplete", done));
  await session.send("Tracing.start", { traceConfig: { includedCategories: ["disabled-by-default-devtools.timeline"] } });
  await run();
  await session.send("Tracing.end");
  await complete;
  return names;
}

/** Bytes of compiled wasm that a profile keeps. */
function keptCode(profile) {
  const folder = join(profile, "Default", "Code Cache", "wasm");
  const files = existsSync(folder) ? readdirSync(folder) : [];
  return files.reduce((sum, file) => sum + statSync(join(folder, file), { throwIfNoEntry: false })?.size, 0);
}

test("the engine's compiled code is used again", async () => {
  const sites = await theSites();
  const profile = newProfile();
  const session = async (visit) => {
    const visitor = await startVisitor({ profile, args: keepsSoon });
    try {
      return await visit(visitor);
    } finally {
      await visitor.close({ keep: true });
    }
  };
  await session(async (visitor) => {
    const tab = await visitor.open();
    await tab.accept();
    await tab.ask("Tell me a long story about the sea.", { max_tokens: 64 });
    await until("compiled code in the profile", () => keptCode(profile) > 1e5);
  });
  sites.reset();
  const events = await session((visitor) =>
    wasmEvents(visitor.chromium, async () => {
      const tab = await visitor.open();
      await tab.ask("Hi", { max_tokens: 1 });
    }),
  );
  assert.ok(events.has("v8.wasm.moduleCacheHit"), [...events].join(" "));
  const fetched = sites.log.filter(({ path }) => path.endsWith(".wasm"));
  assert.deepEqual(fetched, []);
  rmSync(profile, { recursive: true, force: true });
});
