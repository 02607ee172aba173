/** What an embed costs the page around it: tasks that hold it up, and how soon it answers the visitor's clicks. */
import { setTimeout as sleep } from "node:timers/promises";

/** Prepares a page to remember them; before anything is loaded. */
export const watchPage = (page) =>
  page.addInitScript(() => {
    if (window !== window.top) return;
    window.longTasks = [];
    window.interactions = [];
    new PerformanceObserver((list) => {
      for (const { startTime, duration } of list.getEntries()) window.longTasks.push({ startTime, duration });
    }).observe({ type: "longtask", buffered: true });
    new PerformanceObserver((list) => {
      for (const { name, duration, interactionId } of list.getEntries()) {
        if (interactionId) window.interactions.push({ name, duration });
      }
    }).observe({ type: "event", durationThreshold: 16, buffered: true });
  });

/**
 * Clicks on the page while `work` goes on; returns the long tasks so far and the slowest interaction in milliseconds
 * (browsers tell none shorter than 16 ms).
 */
export async function pageCost(page, work, { clicks = 20 } = {}) {
  work.catch(() => {});
  for (let click = 0; click < clicks; click += 1) {
    await page.click("h1");
    await sleep(150);
  }
  await work;
  const { longTasks, interactions } = await page.evaluate(() => ({
    longTasks: window.longTasks,
    interactions: window.interactions,
  }));
  return { longTasks, slowest: Math.max(0, ...interactions.map(({ duration }) => duration)), clicks };
}
