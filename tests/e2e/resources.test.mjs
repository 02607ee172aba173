/** What a node takes from the device and from the site's page. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { machineCpuMs, processors, rendererCpuMs } from "./support/browser.mjs";
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

test("a cap of 20 % of all processors holds within 3 points over 30 s", () =>
  withVisitor({ warm: true }, async (visitor) => {
    const tab = await visitor.open({ attributes: { "max-resources": "cpu:20" } });
    await tab.ask("Hi", { max_tokens: 1 });
    // Long enough that it does not end before the measurement does.
    const { outcome } = await tab.askAndWaitFor(2, "Write a very long story about the sea.", {
      max_tokens: 1500,
      temperature: 1,
    });
    outcome.catch(() => {});
    await sleep(2000);
    const [began, before, machine] = [performance.now(), rendererCpuMs(visitor.chromium.pid), machineCpuMs()];
    await sleep(30_000);
    const used = rendererCpuMs(visitor.chromium.pid) - before;
    const capacity = (performance.now() - began) * processors;
    const share = (100 * used) / capacity;
    const others = (100 * (machineCpuMs() - machine - used)) / capacity;
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
      const tab = await visitor.open({
        before: (page) =>
          page.addInitScript(() => {
            if (window !== window.top) return;
            window.longTasks = [];
            window.interactions = [];
            new PerformanceObserver((list) => {
              for (const { startTime, duration } of list.getEntries())
                window.longTasks.push({ startTime, duration });
            }).observe({ type: "longtask", buffered: true });
            new PerformanceObserver((list) => {
              for (const { name, duration, interactionId } of list.getEntries()) {
                if (interactionId) window.interactions.push({ name, duration });
              }
            }).observe({ type: "event", durationThreshold: 16, buffered: true });
          }),
      });
      const answer = tab.ask("Write a story about the sea.", { max_tokens: 60 });
      answer.catch(() => {});
      for (let click = 0; click < 20; click += 1) {
        await tab.page.click("h1");
        await sleep(150);
      }
      assert.notEqual((await answer).text, "");
      const { longTasks, interactions } = await tab.page.evaluate(() => ({
        longTasks: window.longTasks,
        interactions: window.interactions,
      }));
      const slowest = Math.max(0, ...interactions.map(({ duration }) => duration));
      console.log(`  long tasks: ${longTasks.length}; slowest of 20 interactions: ${slowest} ms`);
      // Playwright's own scripts run in the page too; none of them takes 50 ms on a quiet machine.
      assert.deepEqual(longTasks, []);
      assert.ok(slowest <= 200, `an interaction took ${slowest} ms (good INP is at most 200 ms)`);
    }));
});
