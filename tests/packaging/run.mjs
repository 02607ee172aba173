/**
 * Installs what we ship: the packed tarball, into a project with a bundler and into a plain page, and opens both in
 * Chromium against the built CDN. Needs `npm run build`. Run: node tests/packaging/run.mjs
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const file = fileURLToPath(new URL("packaging.test.mjs", import.meta.url));
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-reporter=spec", "--test-timeout=180000", file],
  {
    stdio: "inherit",
  },
);
process.exit(status ?? 1);
