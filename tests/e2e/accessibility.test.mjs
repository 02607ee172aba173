/** The panel and the assistant as they are shipped, checked by axe-core in our frame on a site's page. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { closeSites, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** WCAG 2.0 to 2.2, levels A and AA: https://github.com/dequelabs/axe-core/blob/develop/doc/API.md#axe-core-tags */
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** axe-core cannot look into closed shadow roots; for it alone they are opened. */
const openShadows = () => {
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function attachShadow(options) {
    return attach.call(this, { ...options, mode: "open" });
  };
};

async function withTab(options, run) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor(options);
  try {
    const tab = await visitor.open({
      attributes: { assistant: "" },
      before: (page) => page.addInitScript(openShadows),
    });
    await run(tab, visitor, sites);
  } finally {
    await visitor.close();
  }
}

async function clean(tab) {
  const frame = await tab.frame();
  await frame.evaluate(`${axe};void 0`);
  const { violations, passes } = await frame.evaluate(
    (runOnly) => window.axe.run(document, { runOnly, resultTypes: ["violations", "passes"] }),
    tags,
  );
  const told = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.flat().join(" ")).join("; ")}`,
  );
  assert.deepEqual(told, []);
  assert.ok(passes.length > 5, `only ${passes.length} rules had something to look at`);
}

describe("axe-core finds nothing wrong", () => {
  for (const scheme of ["light", "dark"]) {
    test(`with the panel and its choices, ${scheme}`, () =>
      withTab({}, async (tab) => {
        await tab.page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
        await tab.panel();
        await sleep(500);
        await clean(tab);
        await tab.click("button", "Choose");
        await tab.find("button", "Save choice");
        await clean(tab);
      }));

    test(`with the assistant, an answer and the settings, ${scheme}`, () =>
      withTab({ warm: true }, async (tab) => {
        await tab.page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
        await tab.click("button", /Ask the assistant/, { timeout: 20_000 });
        await tab.click("textbox", "Your message");
        await tab.page.keyboard.type("Name a colour.");
        await tab.page.keyboard.press("Enter");
        await until("a receipt", async () => /Ran on this device/.test(await tab.text()), {
          timeout: 60_000,
        });
        await clean(tab);
        await tab.click("button", "Settings");
        await tab.find("button", "Withdraw");
        await clean(tab);
      }));
  }
});

test("the panel is worked with the keyboard alone", () =>
  withTab({}, async (tab) => {
    await tab.panel();
    await sleep(1200);
    const reached = [];
    for (let press = 0; press < 20; press += 1) {
      await tab.page.keyboard.press("Tab");
      const frame = await tab.frame();
      const name = await frame.evaluate(() => {
        let element = document.activeElement;
        while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
        return element?.tagName === "BUTTON" ? element.textContent.trim() || element.ariaLabel : null;
      });
      if (name) reached.push(name);
      if (name === "Reject") break;
    }
    assert.ok(reached.includes("Reject"), `Tab reaches ${reached.join(", ")}`);
    await tab.page.keyboard.press("Enter");
    await tab.gone("button", "Reject");
  }));
