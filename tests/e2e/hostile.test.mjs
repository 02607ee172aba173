/** A site that wants consent without the visitor. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as drawn from "./support/drawn.mjs";
import { buckets, nothing } from "./support/storage.mjs";
import { closeSites, modelFile, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

async function withTab(run, options = {}) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor(options);
  try {
    await run(await visitor.open(), visitor, sites);
  } finally {
    await visitor.close();
  }
}

/** Nothing was agreed to, whatever the site believes. */
async function notAgreed(tab, sites) {
  await sleep(1000);
  assert.equal(sites.bytes(modelFile), 0, "no model is fetched");
  assert.equal(tab.page.workers().length, 0, "no worker runs");
  const { opfs, serviceWorkers } = await buckets(await tab.frame());
  assert.deepEqual({ opfs, serviceWorkers }, { opfs: nothing.opfs, serviceWorkers: nothing.serviceWorkers });
}

const record = {
  receiptId: "forged",
  purposes: ["runAi", "keepModel"],
  noticeDigest: "ab".repeat(32),
  language: "en",
  grantedAtMs: 1,
  expiresAtMs: 2,
};

describe("a site cannot agree in the visitor's place", () => {
  test("by messages to the frame", () =>
    withTab(async (tab, _visitor, sites) => {
      await tab.panel();
      await tab.page.evaluate((forged) => {
        const now = Date.now();
        const grant = { type: "grant", record: { ...forged, grantedAtMs: now, expiresAtMs: now + 1e9 } };
        const frame = document.querySelector("iframe").contentWindow;
        const { port1, port2 } = new MessageChannel();
        const words = [
          grant,
          { v: 1, id: 1, kind: "command", body: grant },
          { type: "consent", purposes: ["runAi"] },
          { type: "decide", record: grant.record },
          { kwaainet: 1, nonce: "guess" },
        ];
        for (const word of words) {
          frame.postMessage(word, "*");
          port1.postMessage(word);
        }
        frame.postMessage({ kwaainet: 1, nonce: "guess" }, "*", [port2]);
        for (const word of words) port1.postMessage(word);
      }, record);
      await notAgreed(tab, sites);
    }));

  test("by posting from another origin's window", () =>
    withTab(async (tab, visitor, sites) => {
      await tab.panel();
      const evil = sites.page("/evil", "<p>evil</p>", { host: "evil.localhost" });
      await tab.page.evaluate((url) => {
        const other = document.createElement("iframe");
        other.src = url;
        document.body.append(other);
      }, evil);
      let frame = null;
      for (let tries = 0; tries < 50 && frame === null; tries += 1) {
        frame = tab.page.frames().find((candidate) => candidate.url() === evil) ?? null;
        await sleep(100);
      }
      await frame.evaluate((forged) => {
        for (let at = 0; at < parent.length; at += 1) {
          const { port2 } = new MessageChannel();
          parent[at].postMessage({ kwaainet: 1, nonce: "guess" }, "*", [port2]);
          parent[at].postMessage({ type: "grant", record: forged }, "*");
        }
      }, record);
      await notAgreed(tab, sites);
      assert.ok(visitor);
    }));

  test("by clicks that a program makes", () =>
    withTab(async (tab, visitor, sites) => {
      await tab.panel();
      await sleep(1200);
      // The frame is another origin: the strongest a site has is synthetic events on its own elements.
      await tab.page.evaluate(() => {
        const frame = document.querySelector("iframe");
        const { left, top, width, height } = frame.getBoundingClientRect();
        for (const type of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"]) {
          const place = { bubbles: true, clientX: left + width / 2, clientY: top + height - 30 };
          frame.dispatchEvent(new MouseEvent(type, place));
          document.elementFromPoint(place.clientX, place.clientY)?.dispatchEvent(new MouseEvent(type, place));
        }
      });
      // Even code in our own frame (an extension, say) cannot: `element.click()` is not trusted.
      const frame = await tab.frame();
      const { node } = await tab.find("button", "Accept");
      const session = await visitor.context.newCDPSession(frame);
      const { object } = await session.send("DOM.resolveNode", { backendNodeId: node });
      await session.send("Runtime.callFunctionOn", {
        objectId: object.objectId,
        functionDeclaration: "function () { this.click(); }",
      });
      await sleep(300);
      assert.match(await tab.text(), /made by a program/);
      await notAgreed(tab, sites);
    }));

  test("by making itself the reader of the frame", () =>
    withTab(async (tab) => {
      await tab.panel();
      const outcome = await tab.attempt(() => {
        const frame = document.querySelector("iframe");
        const reached = [];
        for (const reach of [
          () => frame.contentDocument?.body.innerHTML,
          () => frame.contentWindow.document.title,
          () => frame.contentWindow.indexedDB.databases(),
          () => frame.contentWindow.navigator.storage,
        ]) {
          try {
            if (reach()) reached.push(String(reach));
          } catch {}
        }
        return reached;
      });
      assert.deepEqual(outcome.value, []);
    }));
});

/** What a site may do to its own elements, of which our frame is one. */
const tricks = {
  covered: (frame) => {
    const cover = document.createElement("div");
    cover.textContent = "You have won";
    cover.style.cssText =
      "position:fixed;inset:0;background:#fff;z-index:2147483647;pointer-events:none;font-size:40px";
    // Later in the document and in the top layer: above whatever z-index the frame has.
    document.body.append(cover);
    cover.popover = "manual";
    cover.showPopover();
    return frame !== null;
  },
  transparent: (frame) => {
    frame.style.setProperty("opacity", "0.01", "important");
    return true;
  },
  shrunk: (frame) => {
    frame.style.setProperty("clip-path", "inset(80% 0 0 0)", "important");
    return true;
  },
  scaled: (frame) => {
    frame.style.setProperty("transform", "scale(0.2)", "important");
    frame.style.setProperty("transform-origin", "bottom right", "important");
    return true;
  },
  filtered: (frame) => {
    frame.style.setProperty("filter", "blur(8px)", "important");
    return true;
  },
};

/** Rests on Accept, wherever the site has put it, long enough for a click to count, and clicks. */
async function restAndClick(tab, name) {
  await sleep(1000);
  const place =
    name === "scaled"
      ? await scaledPlace(tab)
      : await drawn.placeOf(tab.page, await tab.frame(), await tab.find("button", "Accept"));
  await tab.page.mouse.move(place.x - 2, place.y - 2);
  await tab.page.mouse.move(place.x, place.y);
  await sleep(800);
  await tab.page.mouse.click(place.x, place.y);
}

test("the same click counts when the site leaves the panel alone", () =>
  withTab(async (tab) => {
    await tab.panel();
    await restAndClick(tab, "left alone");
    await tab.gone("button", "Accept");
  }));

describe("a real click does not count while the panel", () => {
  for (const [name, trick] of Object.entries(tricks)) {
    test(`is ${name}`, () =>
      withTab(async (tab, _visitor, sites) => {
        await tab.panel();
        await tab.page.evaluate(`(${trick})(document.querySelector("iframe"))`);
        await restAndClick(tab, name);
        await until("a word about the click", async () => /did not count/.test(await tab.text()), {
          timeout: 3000,
        });
        await notAgreed(tab, sites);
      }));
  }

  test("has just moved under the pointer", () =>
    withTab(async (tab, _visitor, sites) => {
      await tab.panel();
      const frame = await tab.frame();
      const there = await drawn.placeOf(tab.page, frame, await tab.find("button", "Accept"));
      await tab.page.evaluate(() => {
        document
          .querySelector("iframe")
          .style.setProperty("transform", "translate(-400px, -200px)", "important");
      });
      await sleep(1200);
      await tab.page.mouse.move(there.x, there.y);
      await tab.page.mouse.down();
      await tab.page.evaluate(() => {
        document.querySelector("iframe").style.removeProperty("transform");
      });
      await tab.page.mouse.up();
      await tab.page.mouse.click(there.x, there.y);
      await notAgreed(tab, sites);
    }));

  test("has only just appeared", () =>
    withTab(async (tab, _visitor, sites) => {
      await tab.panel();
      const place = await drawn.placeOf(tab.page, await tab.frame(), await tab.find("button", "Accept"));
      await tab.page.mouse.click(place.x, place.y);
      // Whether the click was early enough depends on the machine; if it was, it must not count.
      const text = await tab.text();
      if (/only just appeared/.test(text)) await notAgreed(tab, sites);
      else assert.match(text, /Accept|download/i);
    }));
});

/** Under a scale the box model of the frame does not know where its content is on the screen. */
async function scaledPlace(tab) {
  const frame = await tab.frame();
  const box = await (await frame.frameElement()).boundingBox();
  const inner = await frame.evaluate(() => ({ width: innerWidth, height: innerHeight }));
  const place = await drawn.placeOf(tab.page, frame, await tab.find("button", "Accept"));
  return {
    x: box.x + ((place.x - box.x) / inner.width) * box.width,
    y: box.y + ((place.y - box.y) / inner.height) * box.height,
  };
}
