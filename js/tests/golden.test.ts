/**
 * The golden messages mean here what they mean in Rust (sdk-core/types/tests/golden_protocol.rs): the compiler takes
 * each for an envelope, and the client takes none of them for nonsense.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { isEnvelope } from "../src/protocol/port.js";

const folder = fileURLToPath(new URL("../../tests/golden/protocol/", import.meta.url));
const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = fileURLToPath(new URL("../../node_modules/.bin/tsc", import.meta.url));
const messages = readdirSync(folder).map((name) => ({
  name,
  text: readFileSync(join(folder, name), "utf8"),
}));

test.each(messages)("$name is an envelope", ({ text }) => {
  expect(isEnvelope(JSON.parse(text))).toBe(true);
});

test("the generated types describe them", { timeout: 60_000 }, () => {
  const work = mkdtempSync(join(here, ".golden-"));
  try {
    // Literals of their own, because TypeScript forgets the exact words of an imported JSON file.
    const lines = messages.map(({ text }, at) => `export const message${at}: Envelope = ${text.trim()};`);
    const head = 'import type { Envelope } from "../../src/protocol/types.js";';
    writeFileSync(join(work, "messages.ts"), [head, ...lines].join("\n"));
    const wrong = 'export const wrong: Envelope = { v: 1, id: 1, kind: "command", body: { type: "grant" } };';
    writeFileSync(join(work, "wrong.ts"), [head, wrong].join("\n"));
    const options = { extends: "../../tsconfig.json", compilerOptions: { noEmit: true, rootDir: "../.." } };
    const check = (file: string) => {
      writeFileSync(join(work, "tsconfig.json"), JSON.stringify({ ...options, include: [file] }));
      return spawnSync(tsc, ["-p", work], { encoding: "utf8" }).stdout;
    };
    expect(check("messages.ts")).toBe("");
    expect(check("wrong.ts")).toContain("record");
  } finally {
    rmSync(work, { recursive: true });
  }
});

test("there is one of every kind", () => {
  const kinds = new Set(messages.map(({ text }) => (JSON.parse(text) as { kind: string }).kind));
  expect(kinds.size).toBe(10);
});
