/** The consent panel: what it says, whose clicks it believes, and that it is there for everybody. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { startUi } from "./harness/world.mjs";

let ui;
before(async () => {
  ui = await startUi();
});
after(() => ui.close());

async function withPanel(wish, options, run) {
  const tab = await ui.open(wish, options);
  try {
    const outcome = await run(tab);
    assert.deepEqual(tab.faults, []);
    return outcome;
  } finally {
    await tab.close();
  }
}

const decisions = (tab) => tab.harness(() => window.harness.decisions);
const decided = async (tab) => {
  await tab.frame.waitForFunction(() => window.harness.decisions.length > 0, null, { timeout: 3000 });
  return (await decisions(tab))[0];
};
/** Without the marks that keep a name in one piece inside Arabic. */
const plain = (text) => text.replaceAll(/[\u2068\u2069]/g, "");
const note = (tab) => tab.frame.locator(".note").textContent({ timeout: 2000 });

describe("the question", () => {
  test("is there as soon as a frame that had no layout gets one", () =>
    withPanel({ noLayoutMs: 400 }, {}, async (tab) => {
      const box = await tab.frame.locator("section").boundingBox();
      assert.ok(box.width > 200 && box.height > 100, JSON.stringify(box));
    }));

  test("names size, model, licence, caps, and who can read what is written", () =>
    withPanel({}, {}, async (tab) => {
      const text = plain(await tab.frame.locator("section").textContent());
      for (const part of ["98 MB", "SmolLM2 135M Instruct", "Apache-2.0", "20%", "1 GB", "5.2 GB"]) {
        assert.ok(text.includes(part), `${part} in:\n${text}`);
      }
      assert.match(text, /harbour-museum\.example cannot read along: this window belongs to cdn\.localhost/);
      assert.match(text, /Nobody earns anything/);
      await tab.shot("panel");
    }));

  test("says that a site with an interface of its own reads the text", () =>
    withPanel({ options: {} }, {}, async (tab) => {
      const text = plain(await tab.frame.locator("section").textContent());
      assert.match(text, /form of harbour-museum\.example itself, so that site can read it/);
      assert.doesNotMatch(text, /cannot read/);
    }));

  test("says that a window in the site's own page can be read by the site", () =>
    withPanel({ drawnIn: "page" }, {}, async (tab) => {
      assert.match(plain(await tab.frame.locator("section").textContent()), /could read what you write/);
    }));

  test("honours Global Privacy Control and says so", () =>
    withPanel({ gpc: true }, {}, async (tab) => {
      assert.match(await tab.frame.locator("section").textContent(), /Global Privacy Control/);
      await tab.role("button", "Choose").click();
      const names = await tab.frame.getByRole("switch").evaluateAll((all) => all.map((one) => one.id));
      assert.deepEqual(names, ["run", "keep"], "no figures about use are asked for");
    }));

  test("gives Accept, Reject and Choose the same weight", () =>
    withPanel({}, {}, async (tab) => {
      for (const locale of ["light", "dark"]) {
        await tab.page.emulateMedia({ colorScheme: locale });
        const looks = await tab.frame.locator(".choices button").evaluateAll((buttons) =>
          buttons.map((button) => {
            const { width, height } = button.getBoundingClientRect();
            const style = getComputedStyle(button);
            const { color, backgroundColor, fontSize, fontWeight, borderColor, borderWidth } = style;
            return { width, height, color, backgroundColor, fontSize, fontWeight, borderColor, borderWidth };
          }),
        );
        assert.equal(looks.length, 3);
        for (const look of looks) {
          assert.ok(Math.abs(look.width * look.height - looks[0].width * looks[0].height) < 20);
          assert.deepEqual({ ...look, width: 0 }, { ...looks[0], width: 0 });
        }
      }
    }));

  test("is small and leaves the page to its reader", () =>
    withPanel({}, {}, async (tab) => {
      const { width, height } = await tab.page.evaluate(() => window.lastLayout);
      assert.ok(width * height < 0.25 * 1280 * 800, `${width} x ${height}`);
      const focus = await tab.page.evaluate(() => document.activeElement.tagName);
      assert.equal(focus, "BODY", "it takes no focus from the page");
    }));
});

describe("a decision", () => {
  test("Accept makes a record whose digest is that of the words shown", () =>
    withPanel({}, {}, async (tab) => {
      await tab.rest();
      const shown = [await tab.frame.locator("section").textContent()];
      await tab.role("button", "Choose").click();
      shown.push(await tab.frame.locator("section").textContent());
      await tab.role("button", "Back").click();
      await tab.rest();
      await tab.click(tab.role("button", "Accept"));
      const record = await decided(tab);
      const notice = await tab.harness(() => window.harness.notice);
      const flat = shown.join("\n").replaceAll(/\s+/g, " ");
      const lines = notice.split("\n").flatMap((line) => line.split(/: (?=Down|Other)| \/ /));
      for (const line of lines) assert.ok(flat.includes(line.trim()), `shown: ${line}`);
      assert.equal(record.noticeDigest, createHash("sha256").update(notice).digest("hex"));
      assert.deepEqual(record.purposes, ["runAi", "keepModel"]);
      assert.equal(record.language, "en");
      assert.ok(Math.abs(record.grantedAtMs - Date.now()) < 60_000);
      const days = (record.expiresAtMs - record.grantedAtMs) / 86_400_000;
      assert.ok(days > 180 && days < 185, `${days} days`);
      assert.match(record.receiptId, /^[0-9a-hjkmnp-tv-z]{4}(-[0-9a-hjkmnp-tv-z]{4}){3}$/);
    }));

  test("Reject hands over nothing, at once, and no waiting is asked for", () =>
    withPanel({}, {}, async (tab) => {
      await tab.click(tab.role("button", "Reject"), { hover: 0 });
      assert.deepEqual(await decisions(tab), [null]);
    }));

  test("Choose has every switch off, and saves what was switched on", () =>
    withPanel({}, {}, async (tab) => {
      await tab.role("button", "Choose").click();
      const keep = tab.role("switch", "Keep the model on this device");
      const run = tab.role("switch", "Run AI for me");
      assert.deepEqual([await run.isChecked(), await keep.isChecked()], [false, false]);
      assert.ok(await keep.isDisabled());
      await run.check();
      assert.ok(await keep.isEnabled());
      await tab.rest();
      await tab.click(tab.role("button", "Save choice"));
      assert.deepEqual((await decided(tab)).purposes, ["runAi"]);
    }));

  test("saving a choice with everything off is a refusal, and it says so before", () =>
    withPanel({}, {}, async (tab) => {
      await tab.role("button", "Choose").click();
      assert.match(await tab.frame.locator("section").textContent(), /Nothing is switched on/);
      await tab.rest();
      await tab.click(tab.role("button", "Save choice"));
      assert.deepEqual(await decisions(tab), [null]);
    }));

  test("closing decides nothing; what was in force stays in force", async () => {
    await withPanel({}, {}, async (tab) => {
      await tab.role("button", "Choose").focus();
      await tab.page.keyboard.press("Escape");
      await tab.page.waitForFunction(() => window.lastLayout.mode === "pill", null, { timeout: 5000 });
      assert.deepEqual(await decisions(tab), []);
      const pill = tab.role("button", /your choice/);
      assert.ok(
        await pill.evaluate((one) => one.getRootNode().activeElement === one),
        "focus is on the pill",
      );
      await tab.page.keyboard.press("Enter");
      assert.ok(await tab.role("button", "Accept").isVisible());
    });
    await withPanel({ current: true }, {}, async (tab) => {
      await tab.role("button", "Close").click();
      assert.ok(await tab.harness(() => window.harness.decisions[0] === window.harness.record));
    });
  });

  test("after a withdrawal it says that everything is deleted", () =>
    withPanel({ withdrawn: true }, {}, async (tab) => {
      assert.match(await tab.frame.locator("section").textContent(), /deleted from this device/);
      await tab.role("button", "Choose again").click();
      assert.ok(await tab.role("button", "Accept").isVisible());
    }));
});

describe("a click that a person cannot have meant", () => {
  test("made by a script", () =>
    withPanel({}, {}, async (tab) => {
      await tab.rest();
      for (const name of ["Accept", "Reject"]) {
        await tab.role("button", name).evaluate((button) => button.click());
        assert.match(await note(tab), /made by a program/);
      }
      const forged = { bubbles: true, composed: true, detail: 1, pointerType: "mouse" };
      await tab.role("button", "Accept").dispatchEvent("click", forged);
      assert.deepEqual(await decisions(tab), []);
    }));

  test("on a panel that has only just appeared", async (t) => {
    // A busy machine may bring the click later than the panel asks a visitor to wait: then it is right to count it.
    for (let attempt = 1; attempt <= 8; attempt += 1) {
      const early = await withPanel({}, {}, async (tab) => {
        await tab.click(tab.role("button", "Accept"), { hover: 0 });
        if (!(await tab.harness(() => window.harness.clickedAt - window.harness.mountedAt < 500)))
          return false;
        assert.match(await note(tab), /only just appeared/);
        assert.deepEqual(await decisions(tab), []);
        await tab.rest();
        await tab.click(tab.role("button", "Accept"));
        assert.ok(await decided(tab), "the next one counts");
        return true;
      });
      if (early) return;
    }
    t.skip("this machine is too slow to click within half a second");
  });

  test("on a panel that the site covers with something the mouse does not feel", () =>
    withPanel({}, {}, async (tab) => {
      await tab.rest();
      await tab.page.evaluate(() => {
        const cover = document.createElement("div");
        cover.id = "cover";
        cover.style.cssText =
          "position:fixed;right:0;bottom:90px;width:420px;height:360px;background:#fff;pointer-events:none;z-index:9";
        cover.textContent = "Press Accept to win a lighthouse";
        document.body.append(cover);
      });
      await tab.rest(600);
      await tab.click(tab.role("button", "Accept"));
      assert.match(await note(tab), /covers this window/);
      assert.deepEqual(await decisions(tab), []);
      await tab.page.evaluate(() => document.querySelector("#cover").remove());
      await tab.rest(900);
      await tab.click(tab.role("button", "Accept"));
      assert.ok(await decided(tab), "uncovered, it counts");
    }));

  for (const [name, style] of [
    ["transparent", "opacity:.02"],
    ["filtered", "filter:brightness(20)"],
    ["turned", "transform:rotate(8deg)"],
    ["shrunk by a transform", "transform:scale(.2);transform-origin:bottom right"],
  ]) {
    test(`on a panel that the site has made ${name}`, () =>
      withPanel({}, {}, async (tab) => {
        await tab.rest();
        await tab.page.evaluate((css) => {
          document.querySelector("iframe").style.cssText += `;${css}`;
        }, style);
        await tab.rest(800);
        await tab.click(tab.role("button", "Accept"));
        await tab.page.waitForTimeout(100);
        assert.deepEqual(await decisions(tab), []);
      }));
  }

  test("on a panel that the site has cut down to its buttons", () =>
    withPanel({}, {}, async (tab) => {
      await tab.page.evaluate(() => {
        document.querySelector("iframe").style.cssText += ";max-height:110px";
      });
      await tab.rest();
      await tab.click(tab.role("button", "Accept"));
      assert.match(await tab.frame.locator(".note").textContent(), /too small/);
      assert.deepEqual(await decisions(tab), []);
    }));

  test("on a panel that slid under the resting mouse", () =>
    withPanel({}, {}, async (tab) => {
      const box = await tab.role("button", "Accept").boundingBox();
      await tab.rest();
      const [x, y] = [box.x + box.width / 2 - 500, box.y + box.height / 2];
      await tab.page.mouse.move(x, y);
      await tab.rest(400);
      // The visitor is about to press something of the site; the site slides our frame there.
      await tab.page.evaluate(() => {
        document.querySelector("iframe").style.right = "500px";
      });
      await tab.page.waitForTimeout(60);
      await tab.page.mouse.down();
      await tab.page.mouse.up();
      await tab.page.waitForTimeout(100);
      assert.deepEqual(await decisions(tab), []);
      assert.match(await note(tab), /appeared or moved/);
    }));

  test("on a panel that slides while the mouse rests on it", () =>
    withPanel({}, {}, async (tab) => {
      const accept = await tab.role("button", "Accept").boundingBox();
      const reject = await tab.role("button", "Reject").boundingBox();
      await tab.page.mouse.move(reject.x + 9, reject.y + 9);
      await tab.page.mouse.move(reject.x + 10, reject.y + 10);
      await tab.rest(900);
      await tab.page.evaluate((by) => {
        document.querySelector("iframe").style.right = `${-by}px`;
      }, reject.x - accept.x);
      await tab.page.waitForTimeout(60);
      await tab.page.mouse.down();
      await tab.page.mouse.up();
      await tab.page.waitForTimeout(100);
      assert.deepEqual(await decisions(tab), []);
    }));

  test("by a key that was pressed as the site moved the focus to us", () =>
    withPanel({}, {}, async (tab) => {
      await tab.rest();
      await tab.role("button", "Accept").focus();
      await tab.page.evaluate(() => {
        const field = document.createElement("input");
        document.body.append(field);
        field.focus();
      });
      await tab.rest(700);
      await tab.page.evaluate(() => document.querySelector("iframe").focus());
      await tab.role("button", "Accept").focus();
      await tab.page.keyboard.press("Enter");
      assert.deepEqual(await decisions(tab), []);
      await tab.rest();
      await tab.page.keyboard.press("Enter");
      assert.ok(await decided(tab), "pressed again after a moment, it counts");
    }));
});

describe("everybody can use it", () => {
  test("by keyboard alone, in the order it is read", () =>
    withPanel({}, {}, async (tab) => {
      await tab.rest();
      const names = [];
      await tab.page.keyboard.press("Tab");
      for (let i = 0; i < 4; i += 1) {
        names.push(
          await tab.harness(() => {
            const inner = document.querySelector("kwaainet-consent").shadowRoot.activeElement;
            return inner?.getAttribute("aria-label") ?? inner?.textContent;
          }),
        );
        if (i < 3) await tab.page.keyboard.press("Tab");
      }
      assert.deepEqual(names, ["Decide later", "Accept", "Reject", "Choose"]);
      await tab.page.keyboard.press("Enter");
      await tab.page.keyboard.press("Tab");
      await tab.page.keyboard.press("Tab");
      await tab.page.keyboard.press("Space");
      assert.ok(await tab.role("switch", "Run AI for me").isChecked());
      for (let i = 0; i < 2; i += 1) await tab.page.keyboard.press("Tab");
      await tab.rest();
      await tab.page.keyboard.press("Enter");
      assert.deepEqual((await decided(tab)).purposes, ["runAi"]);
    }));

  test("by a finger", () =>
    withPanel({}, { hasTouch: true, width: 390, height: 780 }, async (tab) => {
      await tab.rest();
      const box = await tab.role("button", "Accept").boundingBox();
      await tab.page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
      assert.ok(await decided(tab));
    }));

  // One after the other on one page: a new page costs more than all that is looked at.
  const views = {
    question: async () => {},
    note: (tab) => tab.frame.locator("#accept").evaluate((button) => button.click()),
    choose: (tab) => tab.frame.locator("#choose").click(),
    chosen: (tab) => tab.frame.locator("#run").click(),
    pill: (tab) => tab.frame.locator(".tool").click(),
  };
  for (const locale of ["en", "de", "fr", "es", "ar"]) {
    test(`axe-core finds nothing, and nothing is cut off: ${locale}`, () =>
      withPanel({ locales: [locale], gpc: true }, { reducedMotion: "reduce" }, async (tab) => {
        for (const [name, show] of Object.entries(views)) {
          await show(tab);
          await tab.rest(350);
          assert.deepEqual(await overflowing(tab), [], name);
          for (const colorScheme of ["light", "dark"]) {
            await tab.page.emulateMedia({ colorScheme });
            await tab.shot(`panel-${locale}-${colorScheme}-${name}`);
            assert.deepEqual(await tab.axe(), [], `${name}, ${colorScheme}`);
          }
        }
      }));
  }

  test("at 400 % zoom (320 x 256): every button is in reach, and Accept counts", async () => {
    for (const locale of ["en", "de", "fr", "es", "ar"]) {
      await withPanel({ locales: [locale] }, { width: 320, height: 256 }, async (tab) => {
        await tab.rest();
        await tab.shot(`panel-${locale}-zoom`);
        assert.deepEqual(await overflowing(tab), []);
        for (const id of ["accept", "reject", "choose"]) {
          const { x, y, width, height } = await tab.frame.locator(`#${id}`).boundingBox();
          assert.ok(x >= 0 && y >= 0 && x + width <= 320 && y + height <= 256, `${id} in ${locale}`);
        }
        assert.deepEqual(await tab.axe(), []);
        await tab.click(tab.frame.locator("#accept"));
        assert.ok(await decided(tab));
      });
    }
  });

  test("with no motion where none is wanted, and with the system's own colours", async () => {
    await withPanel({}, { reducedMotion: "reduce" }, async (tab) => {
      const moving = await tab.harness(
        () => document.querySelector("kwaainet-consent").shadowRoot.getAnimations().length,
      );
      assert.equal(moving, 0);
    });
    await withPanel({}, { forcedColors: "active" }, async (tab) => {
      await tab.role("button", "Choose").click();
      await tab.shot("panel-forced-colours");
      assert.deepEqual(await tab.axe(), []);
    });
  });
});

/** Elements whose text runs out of their box sideways. */
function overflowing(tab) {
  return tab.frame.evaluate(() =>
    [...document.querySelector("kwaainet-consent").shadowRoot.querySelectorAll("section, section *, .pill")]
      .filter((element) => element instanceof HTMLElement && !element.closest(".hide"))
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0)
      .filter((element) => getComputedStyle(element).display !== "inline")
      .map((element) => element.outerHTML.slice(0, 120)),
  );
}
