/**
 * `npm run e2e`: the browser tests, one after the other (two processors carry one browser). Arguments choose test files
 * by a part of their names, flags go to node. Run: node tests/e2e/run.mjs [part of a name]… [--test-name-pattern=…]
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./support/world.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith("--"));
const files = [...readdirSync(here), ...readdirSync(join(here, "ui")).map((name) => `ui/${name}`)]
  .filter((name) => name.endsWith(".test.mjs"))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort()
  .map((name) => join(here, name));
if (files.length === 0) {
  console.error(`no test file has ${wanted.join(" or ")} in its name`);
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), "kwaainet-e2e-"));
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", "--test-reporter=spec", "--test-timeout=1200000", ...flags, ...files],
  {
    stdio: "inherit",
    env: { ...process.env, KWAAINET_E2E_FOLDER: folder, KWAAINET_E2E_PORT: String(await freePort()) },
  },
);
rmSync(folder, { recursive: true, force: true });
process.exit(status ?? 1);
