/** The assistant: the way of the model to the device, the conversation, the receipt, and the way out. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { startUi } from "./harness/world.mjs";

let ui;
before(async () => {
  ui = await startUi();
});
after(() => ui.close());

const BYTES = 98_362_432;
const kept = { stored: BYTES };

async function withAssistant(wish, options, run) {
  const tab = await ui.open({ part: "assistant", ...wish }, options);
  try {
    await run(tab);
    assert.deepEqual(tab.faults, []);
  } finally {
    await tab.close();
  }
}

const plain = (text) => text.replaceAll(/[\u2068\u2069]/g, "").replaceAll(/\s+/g, " ");
const field = (tab) => tab.frame.locator("textarea");
const answers = (tab) => tab.frame.locator(".turn:not(.mine)");
const open = async (tab) => tab.frame.locator("button.pill").click();
const ask = async (tab, text = "What is a tide?") => {
  if ((await field(tab).count()) === 0) await open(tab);
  await field(tab).fill(text);
  await field(tab).press("Enter");
};
const chats = (tab) => tab.harness(() => window.harness.chats);
const text = async (tab) => plain(await tab.frame.locator("section").textContent());
const node = (tab, change) => tab.frame.evaluate((to) => Object.assign(window.harness.node, to), change);

describe("the download", () => {
  test("tells megabytes, speed and the time left, to eyes and to screen readers", () =>
    withAssistant({ justAgreed: true, node: { stall: 0.43 } }, {}, async (tab) => {
      await tab.frame.getByText(/about .20 seconds. left/u).waitFor();
      assert.match(await text(tab), /44 MB of 98 MB.*3\.1 MB\/s · about 20 seconds left/);
      const bar = tab.role("progressbar", "Downloading the model");
      assert.equal(await bar.getAttribute("aria-valuenow"), "45");
      assert.match(plain(await bar.getAttribute("aria-valuetext")), /44 MB of 98 MB · 3\.1 MB\/s/);
      await tab.shot("progress");
      await tab.role("button", "Hide").click();
      assert.match(plain(await tab.role("button", /Ask the assistant/).textContent()), /45%/);
    }));

  test("is held and goes on when the visitor wants", () =>
    withAssistant({ justAgreed: true, node: { stall: 0.43 } }, {}, async (tab) => {
      await tab.frame.getByText(/44 MB. of .98 MB/u).waitFor();
      await tab.role("button", "Pause").click();
      await tab.frame.getByText(/It goes on where it stopped/).waitFor();
      await tab.rest(100);
      assert.equal(await tab.harness(() => window.harness.loads), 1);
      await node(tab, { stall: undefined });
      await tab.role("button", "Continue").click();
      await tab.frame.getByText("The assistant is ready.").waitFor();
      assert.equal(await tab.harness(() => window.harness.loads), 2);
    }));

  test("says that a broken connection mends itself", () =>
    withAssistant({ justAgreed: true, node: { stall: 0.6, stage: "retry" } }, {}, async (tab) => {
      await tab.frame.getByText(/We try again by ourselves; nothing is lost/).waitFor();
      assert.ok(await tab.role("button", "Pause").isVisible());
    }));

  test("says what to do when the device is full, and tries again", () =>
    withAssistant(
      { justAgreed: true, node: { failLoad: "storageFull", failOnce: true } },
      {},
      async (tab) => {
        await tab.frame.getByText(/Free some space on this device/).waitFor();
        await tab.shot("progress-failed");
        assert.deepEqual(await tab.axe(), []);
        await tab.role("button", "Try again").click();
        await tab.frame.getByText("The assistant is ready.").waitFor();
      },
    ));

  test("goes on by itself after a reload, but only where the visitor lets the model stay", async () => {
    const half = { stored: BYTES / 2 };
    await withAssistant({ node: { ...half, stall: 0.7 } }, {}, async (tab) => {
      await tab.role("button", /Ask the assistant.*70%/).waitFor();
      assert.equal(await tab.harness(() => window.harness.loads), 1);
    });
    for (const wish of [{ node: half, purposes: ["runAi"] }, { node: {} }, { node: kept }]) {
      await withAssistant(wish, {}, async (tab) => {
        await tab.rest(200);
        assert.equal(await tab.harness(() => window.harness.loads), 0, JSON.stringify(wish));
      });
    }
  });

  test("is followed when another tab or the site started it", () =>
    withAssistant({}, {}, async (tab) => {
      await tab.rest(100);
      await tab.harness(() => {
        const progress = {
          model: "smollm2-135m-instruct-q4_1",
          stage: "fetch",
          done: 5e7,
          total: 1e8,
          fromPeers: 0,
          peers: 0,
          bytesPerSecond: 1e6,
        };
        window.harness.emit({ type: "progress", progress });
      });
      await tab.role("button", /50%/).waitFor();
    }));
});

describe("a conversation", () => {
  test("streams an answer and ends it with a receipt", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.locator("summary").waitFor();
      const said = plain(await answers(tab).textContent());
      assert.match(said, /A tide is a slow wave\./);
      for (const fact of ["Ran on this device", "128 tokens", "14.2 tokens/s", "Nothing left this device"]) {
        assert.ok(said.includes(fact), `${fact} in ${said}`);
      }
      assert.match(said, /wasm simd128, 2 threads/);
      await tab.frame.locator("summary").click();
      await tab.rest(200);
      await tab.shot("answer");
      assert.match(await text(tab), /A small model: it can be wrong\./);
      const [{ model, messages, stream, temperature, max_tokens }] = await chats(tab);
      assert.deepEqual(
        { model, messages, stream },
        {
          model: "smollm2-135m-instruct-q4_1",
          messages: [{ role: "user", content: "What is a tide?" }],
          stream: true,
        },
      );
      assert.ok(temperature < 0.5 && max_tokens <= 1024, "a small model is kept short and sober");
    }));

  test("the receipt says what the node says, also when that is not nice", () =>
    withAssistant({ node: { ...kept, bytesSent: 5120, privacy: "peers" } }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.locator("summary").waitFor();
      const said = plain(await answers(tab).textContent());
      assert.match(said, /Ran elsewhere: peers/);
      assert.match(said, /5 kB left this device/);
      assert.doesNotMatch(said, /Nothing left|Ran on this device/);
    }));

  test("a question may come before the model does", () =>
    withAssistant({ node: { stall: 0.43 } }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.getByText(/Your question waits for the model: 4\d%/).waitFor();
      await tab.shot("waiting");
      await node(tab, { stall: undefined });
      await tab.frame.locator("summary").waitFor();
      assert.equal((await chats(tab)).length, 1);
    }));

  test("says that it reads the model, and that it thinks", () =>
    withAssistant({ node: { ...kept, loadTicks: 60, think: true } }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.locator(".turn .status", { hasText: "Reading the model…" }).waitFor();
      await tab.frame.locator(".turn .status", { hasText: "Thinking…" }).waitFor();
    }));

  test("stops at once, and nothing that comes later is shown", () =>
    withAssistant({ node: { ...kept, answer: "one two three four five ".repeat(40) } }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.getByText(/three/).waitFor();
      const [now, later, ms] = await tab.frame.evaluate(async () => {
        const root = document.querySelector("kwaainet-assistant").shadowRoot;
        const shown = () => root.querySelector(".turn:not(.mine)").textContent;
        const began = performance.now();
        root.querySelector(".send").click();
        await new Promise(requestAnimationFrame);
        const [at, took] = [shown(), performance.now() - began];
        await new Promise((done) => setTimeout(done, 300));
        return [at, shown(), took];
      });
      assert.equal(now, later);
      assert.match(now, /Stopped\./);
      assert.ok(ms < 150, `${ms} ms`);
      assert.ok(await tab.role("button", "Send").isVisible());
    }));

  test("remembers what was said, but not a question that got no answer", () =>
    withAssistant({ node: { ...kept, think: true } }, {}, async (tab) => {
      await ask(tab, "Never mind");
      await tab.role("button", "Stop").click();
      await node(tab, { think: false });
      await ask(tab, "First");
      await tab.frame.locator("summary").waitFor();
      await ask(tab, "Second");
      await tab.frame.locator("summary").nth(1).waitFor();
      assert.deepEqual(
        (await chats(tab)).at(-1).messages.map(({ content }) => content),
        ["First", "A tide is a slow wave.", "Second"],
      );
      await tab.role("button", "New conversation").click();
      await ask(tab, "Third");
      await tab.frame.locator("summary").waitFor();
      assert.equal((await chats(tab)).at(-1).messages.length, 1);
    }));

  test("Enter sends, Shift+Enter does not, and neither does an input method", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await open(tab);
      assert.ok(await field(tab).evaluate((one) => one.getRootNode().activeElement === one), "ready to type");
      await tab.page.keyboard.type("one");
      await tab.page.keyboard.press("Shift+Enter");
      await tab.page.keyboard.type("two");
      await field(tab).evaluate((one) => {
        const init = { key: "Enter", isComposing: true, bubbles: true, cancelable: true };
        one.dispatchEvent(new KeyboardEvent("keydown", init));
      });
      assert.deepEqual(await chats(tab), []);
      await tab.page.keyboard.press("Enter");
      await tab.frame.locator("summary").waitFor();
      assert.equal((await chats(tab))[0].messages[0].content, "one\ntwo");
    }));

  test("what a model writes is text, whatever it writes", () => {
    const answer =
      "<img src=x onerror=parent.postMessage('x')> <script>alert(1)</script>\n\n[link](javascript:alert(1)) **<b>bold</b>** `<i>`\n\n```html\n<a href=https://evil.example>press</a>\n```";
    return withAssistant({ node: { ...kept, answer } }, {}, async (tab) => {
      await ask(tab, "<b>me too</b>");
      await tab.frame.locator("summary").waitFor();
      const names = await tab.frame.evaluate(() => {
        const root = document.querySelector("kwaainet-assistant").shadowRoot;
        const inside = [...root.querySelectorAll(".text *, .said *")];
        return [...new Set(inside.map((one) => one.localName))].sort();
      });
      assert.deepEqual(names, ["code", "p", "pre", "strong"]);
      const shown = await tab.frame.locator(".text").textContent();
      assert.ok(shown.includes("<script>alert(1)</script>") && shown.includes("<b>bold</b>"), shown);
      assert.equal(await tab.frame.locator(".said").textContent(), "<b>me too</b>");
    });
  });

  test("a conversation that is too long offers a new one; any other error the same question", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await ask(tab, "First");
      await tab.frame.locator("summary").waitFor();
      await node(tab, { failChat: "contextTooLong" });
      await ask(tab, "Second");
      await tab.frame.getByText(/too long for the model/).waitFor();
      assert.deepEqual(await tab.axe(), []);
      await tab.frame.locator(".tools").getByRole("button", { name: "New conversation" }).click();
      await node(tab, { failChat: "internal" });
      await ask(tab, "Third");
      await node(tab, { failChat: undefined });
      await tab.role("button", "Try again").click();
      await tab.frame.locator("summary").waitFor();
      assert.deepEqual((await chats(tab)).at(-1).messages, [{ role: "user", content: "Third" }]);
    }));

  test("an answer can be copied without a permission", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await ask(tab);
      await tab.role("button", "Copy answer").click();
      await tab.role("button", "Copied").waitFor();
    }));

  test("touches no storage of any kind", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await tab.frame.evaluate(() => {
        window.touched = [];
        const watch = (owner, name) => {
          const own = owner[name];
          owner[name] = function (...args) {
            window.touched.push(name);
            return own.apply(this, args);
          };
        };
        for (const name of ["setItem", "getItem"]) watch(Storage.prototype, name);
        for (const name of ["open", "databases"]) watch(IDBFactory.prototype, name);
        watch(CacheStorage.prototype, "open");
        watch(StorageManager.prototype, "getDirectory");
        Object.defineProperty(document, "cookie", {
          set: () => window.touched.push("cookie"),
          get: () => "",
        });
      });
      await ask(tab);
      await tab.frame.locator("summary").waitFor();
      await tab.role("button", "New conversation").click();
      await tab.role("button", "Settings").click();
      assert.deepEqual(await tab.frame.evaluate(() => window.touched), []);
    }));
});

describe("settings", () => {
  test("tell what was agreed to, and hand over the receipt", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      await open(tab);
      await tab.role("button", "Settings").click();
      const said = await text(tab);
      for (const part of [
        "Run AI for me",
        "Keep the model on this device",
        "22 November 2026",
        "22 May 2027",
        "k7q2-m4xn-80pv-3tzd",
      ]) {
        assert.ok(said.includes(part), `${part} in ${said}`);
      }
      await tab.shot("settings");
      assert.deepEqual(await tab.axe(), []);
      const arriving = tab.page.waitForEvent("download");
      await tab.role("button", "Download receipt").click();
      const receipt = JSON.parse(readFileSync(await (await arriving).path(), "utf8"));
      assert.equal(receipt.receiptId, "k7q2-m4xn-80pv-3tzd");
      assert.equal(receipt.site, "https://harbour-museum.example");
      assert.equal(receipt.expiresAt, "2027-05-22T09:30:00.000Z");
      assert.match(receipt.noticeSha256, /^[0-9a-f]{64}$/);
      await tab.role("button", "Change choice").click();
      assert.equal(await tab.harness(() => window.harness.changed), 1);
    }));

  for (const place of ["chat", "settings"]) {
    test(`Withdraw takes one click in the ${place}, of a person, and says what it deletes`, () =>
      withAssistant({ node: kept, withdrawMs: 400 }, {}, async (tab) => {
        await open(tab);
        const what = /deletes the model \(.?98 MB.?\) and this agreement from this device/;
        if (place === "settings") {
          await tab.role("button", "Settings").click();
          assert.match(await text(tab), what);
        }
        const button = tab.role("button", "Withdraw");
        assert.match(await button.getAttribute("title"), what);
        await button.evaluate((one) => one.click());
        assert.equal(await tab.harness(() => window.harness.withdrawn), 0, "not that of a script");
        await button.click();
        await tab.role("button", "Deleting…").waitFor();
        assert.equal(await tab.harness(() => window.harness.withdrawn), 1);
      }));
  }

  test("are all that is drawn where the site has an interface of its own", () =>
    withAssistant({ node: kept, options: {} }, {}, async (tab) => {
      await tab.frame.locator("button.pill").click();
      assert.equal(await field(tab).count(), 0);
      assert.ok(await tab.role("button", "Withdraw").isVisible(), "two clicks away, as Accept was one");
      assert.deepEqual(await tab.axe(), []);
      await tab.page.keyboard.press("Escape");
      await tab.page.waitForFunction(() => window.lastLayout.mode === "pill", null, { timeout: 5000 });
    }));
});

test("the pill is there as soon as a frame that had no layout gets one", () =>
  withAssistant({ node: kept, noLayoutMs: 400 }, {}, async (tab) => {
    const box = await tab.frame.locator("button.pill").boundingBox();
    assert.ok(box.width > 30 && box.height > 20, JSON.stringify(box));
  }));

describe("everybody can use it", () => {
  const answer =
    "A **tide** is a long wave.\n\n```js\nconst hours = 24.84 / 2; // twice a day, a little later each time\n```\n\nIt comes and goes.";
  for (const locale of ["en", "de", "fr", "es", "ar"]) {
    test(`axe-core finds nothing, and nothing is cut off: ${locale}`, () =>
      withAssistant(
        { locales: [locale], node: { ...kept, answer } },
        { reducedMotion: "reduce" },
        async (tab) => {
          const look = async (name) => {
            await tab.rest(300);
            assert.deepEqual(await overflowing(tab), [], name);
            for (const colorScheme of ["light", "dark"]) {
              await tab.page.emulateMedia({ colorScheme });
              await tab.shot(`assistant-${locale}-${colorScheme}-${name}`);
              assert.deepEqual(await tab.axe(), [], `${name}, ${colorScheme}`);
            }
          };
          await look("pill");
          await open(tab);
          await look("hello");
          await ask(tab, locale === "ar" ? "ما هو المدّ؟" : "What is a tide?");
          await tab.frame.locator("summary").click();
          await look("answer");
          await tab.frame.locator(".head .tool").nth(1).click();
          await look("settings");
        },
      ));
  }

  test("the download in every language", async () => {
    for (const locale of ["en", "de", "fr", "es", "ar"]) {
      await withAssistant({ locales: [locale], justAgreed: true, node: { stall: 0.43 } }, {}, async (tab) => {
        await tab.frame.locator('[aria-valuenow="45"]').waitFor();
        await tab.rest(200);
        await tab.shot(`progress-${locale}`);
        assert.deepEqual(await overflowing(tab), [], locale);
        assert.deepEqual(await tab.axe(), [], locale);
      });
    }
  });

  test("at 400 % zoom (320 x 256) the field and the newest words are in reach", () =>
    withAssistant({ node: { ...kept, answer } }, { width: 320, height: 256 }, async (tab) => {
      await ask(tab);
      await tab.frame.locator("summary").waitFor();
      await tab.rest(200);
      await tab.shot("assistant-zoom");
      const box = await field(tab).boundingBox();
      assert.ok(box.y > 0 && box.y + box.height <= 256 && box.x >= 0 && box.x + box.width <= 320);
      const receipt = await tab.frame.locator("summary").boundingBox();
      assert.ok(receipt.y < box.y, "the end of the answer is in view");
      assert.deepEqual(await overflowing(tab), []);
      assert.deepEqual(await tab.axe(), []);
    }));

  test("by keyboard: open, ask, read, settings, back, close; the focus is never lost", () =>
    withAssistant({ node: kept }, {}, async (tab) => {
      // Focus crosses from the page's process into our frame's: it takes its time.
      const focused = (name) =>
        tab.frame.waitForFunction(
          (wanted) => {
            const one = document.querySelector("kwaainet-assistant").shadowRoot.activeElement;
            return new RegExp(wanted).test(one?.getAttribute("aria-label") ?? one?.textContent ?? "");
          },
          name,
          { timeout: 3000 },
        );
      await tab.rest(200);
      await tab.page.keyboard.press("Tab");
      await focused("^Ask the assistant");
      await tab.page.keyboard.press("Enter");
      await focused("^Your message$");
      await tab.page.keyboard.type("What is a tide?");
      await tab.page.keyboard.press("Enter");
      await tab.frame.locator("summary").waitFor();
      await focused("^Your message$");
      await tab.role("button", "Settings").focus();
      await tab.page.keyboard.press("Enter");
      await focused("^Settings$");
      await tab.page.keyboard.press("Escape");
      await focused("^Your message$");
      assert.match(await text(tab), /A tide is a slow wave/, "the conversation is still there");
      await tab.page.keyboard.press("Escape");
      await focused("^Ask the assistant");
    }));

  test("a screen reader hears the answer once, at its end", () =>
    withAssistant({ node: { ...kept, hold: true } }, {}, async (tab) => {
      await ask(tab);
      await tab.frame.getByText(/slow wave/).waitFor();
      const log = tab.role("log", "Conversation");
      assert.equal(await log.getAttribute("aria-busy"), "true");
      await node(tab, { hold: false });
      await tab.frame.locator("summary").waitFor();
      assert.equal(await log.getAttribute("aria-busy"), null);
    }));
});

/** Elements that run out of their box sideways. Code is meant to scroll. */
function overflowing(tab) {
  return tab.frame.evaluate(() =>
    [...document.querySelector("kwaainet-assistant").shadowRoot.querySelectorAll("section, section *, .pill")]
      .filter((element) => element instanceof HTMLElement && !element.closest(".hide, pre, .names p"))
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0)
      .filter((element) => getComputedStyle(element).display !== "inline")
      .map((element) => element.outerHTML.slice(0, 120)),
  );
}
