/**
 * The public API is what its declarations say. A change shows up here, and needs a line in CHANGELOG.md; then
 * `UPDATE_GOLDEN=1 npm test -w js` writes the new file.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { writeTypes } from "../build.mjs";

const golden = fileURLToPath(new URL("../../tests/golden/public-api.d.ts", import.meta.url));

/** What `public/` says itself, and what of other folders it shows. */
const shown = [
  "public/index",
  "public/kwaainet",
  "public/options",
  "public/events",
  "public/chat",
  "protocol/openai",
  "protocol/errors",
  "host/site-options",
];

test("the public API is the one that was agreed on", { timeout: 60_000 }, () => {
  const out = mkdtempSync(join(tmpdir(), "kwaainet-types-"));
  writeTypes(out);
  const parts = shown.map((name) => `// ${name}.ts\n${readFileSync(join(out, `${name}.d.ts`), "utf8")}`);
  rmSync(out, { recursive: true });
  const text = parts.join("\n");
  const { UPDATE_GOLDEN: update } = process.env;
  if (update === "1") {
    mkdirSync(dirname(golden), { recursive: true });
    writeFileSync(golden, text);
  }
  expect(existsSync(golden), `${golden} is missing`).toBe(true);
  expect(text).toBe(readFileSync(golden, "utf8"));
});
