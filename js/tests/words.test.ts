/** What no compiler sees about the languages, the digest of a notice, and untrusted text. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { blocksOf } from "../src/assistant/text.js";
import { sixMonthsAfter } from "../src/consent/record.js";
import { plainSha256, sha256 } from "../src/consent/sha256.js";
import * as ar from "../src/i18n/ar.js";
import * as de from "../src/i18n/de.js";
import * as en from "../src/i18n/en.js";
import * as es from "../src/i18n/es.js";
import * as fr from "../src/i18n/fr.js";
import { Format, fill, pick } from "../src/i18n/locale.js";

const languages = { ar, de, en, es, fr };

/** Every sentence with its path. */
function sentences(of: object, path = ""): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(of)) {
    if (typeof value === "string") {
      found.set(`${path}${key}`, value);
    } else {
      for (const [inner, text] of sentences(value, `${path}${key}.`)) {
        found.set(inner, text);
      }
    }
  }
  return found;
}

const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
const plural = /^assistant\.tokens\./;

describe.each(Object.entries(languages))("%s", (tag, language) => {
  const own = sentences(language);

  test("names the same figures as English, in every sentence", () => {
    for (const [path, text] of sentences(en)) {
      if (!plural.test(path)) {
        expect([path, holes(own.get(path) ?? "")]).toEqual([path, holes(text)]);
      }
    }
  });

  test("leaves nothing empty and nothing in English", () => {
    const international = new Set(["Pause", "Site", "Assistant", "Conversation", "Question"]);
    const english = sentences(en);
    for (const [path, text] of own) {
      expect([path, text.trim()]).not.toEqual([path, ""]);
      const words = text.replaceAll(/\{\w+\}/g, "").replaceAll(/[^\p{L}]/gu, "");
      if (tag !== "en" && words.length > 2 && !plural.test(path) && !international.has(text)) {
        const same = english.get(path) === text && !/token/.test(text);
        expect([path, same]).toEqual([path, false]);
      }
    }
  });

  test("has a form for each plural category that its numbers can take", () => {
    const rules = new Intl.PluralRules(tag);
    const needed = new Set(Array.from({ length: 2000 }, (_, n) => rules.select(n)));
    for (const rule of needed) {
      expect(Object.keys(language.assistant.tokens).concat("other")).toContain(rule);
    }
  });
});

describe("numbers", () => {
  test("are written as the language writes them", () => {
    expect(new Format("en").bytes(98_362_432)).toBe("98 MB");
    expect(new Format("de").bytes(5_242_880_000)).toMatch(/^5,2\sGB$/u);
    expect(new Format("fr").bytes(98_362_432)).toMatch(/^98\sMo$/u);
    expect(new Format("en").memory(1024)).toBe("1 GB");
    expect(new Format("ar").plural(ar.assistant.tokens, 2)).toBe("وحدتان");
    expect(new Format("en").plural(en.assistant.tokens, 1)).toBe("1 token");
    expect(new Format("en").wait(18)).toBe("20 seconds");
    expect(new Format("en").wait(130)).toBe("2 minutes");
  });

  test("a hole without a value stays visible instead of lying", () => {
    expect(fill("{a} of {b}", { a: "1" })).toBe("1 of {b}");
    expect(fill("{a}", { a: "{b}" })).toBe("{b}");
  });
});

describe("the language", () => {
  test("is the first that we write, with the region's numbers", () => {
    expect(pick(["ja", "de-AT", "en"])).toEqual({ tag: "de", full: "de-AT", direction: "ltr" });
    expect(pick(["ar-EG"]).direction).toBe("rtl");
    expect(pick(["xx", ""])).toEqual({ tag: "en", full: "en", direction: "ltr" });
    expect(pick(["en-\u0000evil"]).full).toBe("en");
  });
});

describe("the digest of a notice", () => {
  const texts = [
    "",
    "a",
    "é\u2068x\u2069",
    "x".repeat(55),
    "x".repeat(56),
    "x".repeat(64),
    "ab".repeat(5000),
  ];
  test.each(texts)("is SHA-256 as node:crypto has it (%#)", async (text) => {
    const expected = createHash("sha256").update(text).digest("hex");
    expect(await sha256(text)).toBe(expected);
    expect(Buffer.from(plainSha256(new TextEncoder().encode(text))).toString("hex")).toBe(expected);
  });
});

describe("six months", () => {
  test("are months of the calendar, within the year that the node allows", () => {
    const after = (text: string) => new Date(sixMonthsAfter(Date.parse(text))).toISOString();
    expect(after("2026-11-22T09:30:00Z")).toBe("2027-05-22T09:30:00.000Z");
    expect(after("2026-08-31T00:00:00Z")).toBe("2027-02-28T00:00:00.000Z");
    expect(after("2027-08-31T00:00:00Z")).toBe("2028-02-29T00:00:00.000Z");
  });
});

describe("what a model writes", () => {
  test("falls into paragraphs and code", () => {
    expect(blocksOf("One.\n\n\nTwo\nlines.\n\n```js\nlet a;\n\nlet b;\n```\nEnd")).toEqual([
      { code: false, text: "One." },
      { code: false, text: "Two\nlines." },
      { code: true, text: "let a;\n\nlet b;" },
      { code: false, text: "End" },
    ]);
  });

  test("a fence that is still open is code, and a shorter one inside does not close it", () => {
    expect(blocksOf("````\na\n```\nb")).toEqual([{ code: true, text: "a\n```\nb" }]);
    expect(blocksOf("")).toEqual([]);
  });
});
