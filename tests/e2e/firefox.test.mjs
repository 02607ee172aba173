/** A smoke of the default path in Debian's Firefox, over WebDriver BiDi. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import puppeteer from "puppeteer-core";
import { firefox, missing } from "./support/firefox.mjs";
import { closeSites, pageWithTag, theSites } from "./support/world.mjs";

if (missing) console.warn(`SKIPPED: ${missing}`);

after(closeSites);

/** The middle of an element of our frame, through its closed shadow roots, which only a test opens. */
const openShadows = () => {
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function attachShadow(options) {
    return attach.call(this, { ...options, mode: "open" });
  };
};

function placeOf(frame, name) {
  return frame.evaluate((wanted) => {
    const walk = (root) => {
      for (const element of root.querySelectorAll("*")) {
        if (element.tagName === "BUTTON" && element.textContent.trim() === wanted) return element;
        const found = element.shadowRoot && walk(element.shadowRoot);
        if (found) return found;
      }
      return null;
    };
    const button = walk(document);
    if (button === null) return null;
    button.scrollIntoView();
    const { left, top, width, height } = button.getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  }, name);
}

test("Firefox: consent, download, answer, and the same after a reload", { skip: missing }, async () => {
  const sites = await theSites();
  sites.reset();
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefox,
    headless: true,
    args: ["--width=1280", "--height=900"],
  });
  try {
    const page = await browser.newPage();
    await page.evaluateOnNewDocument(openShadows);
    const url = sites.page("/firefox", pageWithTag(sites.cdn));
    await page.goto(url);
    await page.evaluate(() => {
      void window.kwaainet.consent.ask();
    });
    let place = null;
    let frame = null;
    for (let tries = 0; tries < 100 && place === null; tries += 1) {
      await sleep(100);
      frame = page.frames().find((candidate) => candidate.url().startsWith(`${sites.cdn}/`)) ?? null;
      place = frame && (await placeOf(frame, "Accept").catch(() => null));
    }
    assert.ok(place, "the panel is drawn");
    await sleep(1500);
    place = await placeOf(frame, "Accept");
    const outer = await page.$eval("iframe", (element) => {
      const { left, top } = element.getBoundingClientRect();
      return { left, top };
    });
    const [x, y] = [outer.left + place.x, outer.top + place.y];
    // A pointer has to rest on the panel before its click counts.
    await page.mouse.move(x - 4, y - 4);
    await page.mouse.move(x, y);
    await sleep(600);
    await page.mouse.click(x, y);
    const ask = () =>
      page.evaluate(async () => {
        const { choices } = await window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content: "What is the capital of France? Answer in one sentence." }],
          temperature: 0,
          max_tokens: 12,
        });
        return choices[0].message.content;
      });
    const first = await ask();
    assert.match(first, /Paris/);
    const sent = sites.bytes(/\.gguf$/);
    assert.ok(sent > 90e6, "the model was fetched");
    await page.reload();
    assert.equal(await ask(), first);
    assert.equal(sites.bytes(/\.gguf$/), sent, "no model byte after the reload");
  } finally {
    await browser.close();
  }
});
