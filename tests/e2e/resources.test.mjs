/** What a node takes from the device and from the site's page. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { machineCpuMs, processors, rendererCpuMs } from "./support/browser.mjs";
import { pageCost, watchPage } from "./support/page-cost.mjs";
import { closeSites, startVisitor, theSites } from "./support/world.mjs";

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

/** One question after the other: an answer may end when the model likes. */
async function keepAsking(tab) {
  await tab.page.evaluate(() => {
    window.work = { pieces: 0, ended: false };
    const ask = async () => {
      while (!window.work.ended) {
        const stream = await window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content: "Write a very long story about the sea." }],
          stream: true,
          temperature: 1,
        });
        for await (const _ of stream) {
          window.work.pieces += 1;
          if (window.work.ended) break;
        }
      }
    };
    window.work.asking = ask();
    window.work.asking.catch(() => {});
  });
  await tab.page.waitForFunction(() => window.work.pieces >= 2, undefined, { timeout: 60_000, polling: 20 });
  return {
    /** Fails if a question failed. */
    end: () =>
      tab.page.evaluate(() => {
        window.work.ended = true;
        return window.work.asking;
      }),
  };
}

test("a cap of 20 % of all processors holds within 3 points over 30 s", () =>
  withVisitor({ warm: true }, async (visitor) => {
    const tab = await visitor.open({ attributes: { "max-resources": "cpu:20" } });
    await tab.ask("Hi", { max_tokens: 1 });
    const work = await keepAsking(tab);
    await sleep(2000);
    const [began, before, machine] = [performance.now(), rendererCpuMs(visitor.chromium.pid), machineCpuMs()];
    await sleep(30_000);
    const used = rendererCpuMs(visitor.chromium.pid) - before;
    const capacity = (performance.now() - began) * processors;
    const share = (100 * used) / capacity;
    const others = (100 * (machineCpuMs() - machine - used)) / capacity;
    await work.end();
    console.log(
      `  measured ${share.toFixed(1)} % of ${processors} processors; others used ${others.toFixed(1)} %`,
    );
    assert.ok(share <= 23, `${share.toFixed(1)} % of all processors`);
    if (share < 17 && others > 50) {
      // A browser tells a worker no processor time, so the governor counts the time a step took. Where others
      // take the processor away, that is more than was used: the cap holds, and its lower bound cannot be judged.
      console.warn("  NOT JUDGED: that the cap is used up; run this test on a quiet machine");
      return;
    }
    assert.ok(share >= 17, `${share.toFixed(1)} % of all processors`);
  }));

describe("the site's page", () => {
  test("has no long task while the model loads and answers, and stays responsive", () =>
    withVisitor({ warm: true }, async (visitor) => {
      const tab = await visitor.open({ before: watchPage });
      // What the page and the test's own scripts took before is nothing of ours.
      const asked = await tab.page.evaluate(() => performance.now());
      const answer = tab.ask("Write a story about the sea.", { max_tokens: 60 });
      const { longTasks: all, slowest, clicks } = await pageCost(tab.page, answer);
      const longTasks = all.filter(({ startTime }) => startTime >= asked);
      assert.notEqual((await answer).text, "");
      console.log(`  long tasks: ${longTasks.length}; slowest of ${clicks} interactions: ${slowest} ms`);
      // Playwright's own scripts run in the page too; none of them takes 50 ms on a quiet machine.
      assert.deepEqual(longTasks, []);
      assert.ok(slowest <= 200, `an interaction took ${slowest} ms (good INP is at most 200 ms)`);
    }));
});
