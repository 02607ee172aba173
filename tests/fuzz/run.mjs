/** `npm run fuzz`: every target on its corpus and on seeded mutants of it. Arguments go to src/main.rs. */
import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const { status } = spawnSync(
  "cargo",
  ["run", "--quiet", "--locked", "--bin", "kwaainet-fuzz", "--", ...process.argv.slice(2)],
  { cwd: dirname(fileURLToPath(import.meta.url)), stdio: "inherit" },
);
process.exit(status ?? 1);
