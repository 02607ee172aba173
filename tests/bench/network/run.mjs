/**
 * `npm run bench:network`: a browser's worker and a native peer beside js-libp2p, a model from peers, and what a peer takes when
 * idle. Writes its section of docs/benchmarks.md. Needs `npm run build` and `node sdk-wasm/build.mjs --suites`, and a machine that
 * does nothing else.
 *
 *   node tests/bench/network/run.mjs [--rounds N] [--only wire|share|idle] [--beside NAME=FOLDER]… [--dry]
 *
 *   --beside   another network of ours in the table of the wire, for example that of another commit: a folder with its
 *              network-*.js and kwaainet-network-*.wasm
 *   --dry      prints instead of writing
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { withNetwork } from "../sections.mjs";

const root = join(import.meta.dirname, "../../..");
const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string" },
    beside: { type: "string", multiple: true, default: [] },
    dry: { type: "boolean", default: false },
  },
});
const rounds = Number(values.rounds);
const log = (line) => console.log(line);
const load = loadavg()[0];
if (load > cpus().length / 2)
  console.warn(`This machine is busy (load ${load.toFixed(1)}): the numbers will be too small.`);

const built = spawnSync("cargo", ["build", "--release", "--locked", "-p", "kwaainet"], {
  cwd: root,
  stdio: "inherit",
});
if (built.status !== 0) throw new Error("kwaainet could not be built");
process.env.KWAAINET_BIN = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release/kwaainet");

const measured = {};
const wanted = (part) => values.only === undefined || values.only === part;
if (wanted("wire")) {
  log("A browser's worker and a native peer:");
  const { benchWire } = await import("./wire.mjs");
  const beside = Object.fromEntries(values.beside.map((one) => one.split("=", 2)));
  measured.wire = await benchWire({ rounds, log, beside });
}
if (wanted("idle")) {
  log("An idle peer:");
  measured.idle = await (await import("./idle.mjs")).benchIdle({ rounds: 3, log });
}
if (wanted("share")) {
  log("A model from peers:");
  measured.share = await (await import("./share.mjs")).benchShare({ rounds: Math.min(rounds, 2), log });
}
const { section } = await import("./report.mjs");
const git = (...args) => spawnSync("git", args, { cwd: root, encoding: "utf8" }).stdout.trim();
const text = section({
  ...measured,
  rounds,
  load: load.toFixed(1),
  commit: git("rev-parse", "--short", "HEAD"),
  machine: `${cpus()[0].model.trim()}, ${cpus().length} processors, ${Math.round(totalmem() / 2 ** 30)} GiB`,
  date: new Date().toISOString().slice(0, 10),
  command: ["npm run bench:network", ...process.argv.slice(2)]
    .join(" ")
    .replace("network --", "network -- --"),
});
if (values.dry) log(`\n${text}`);
else {
  const file = join(root, "docs/benchmarks.md");
  writeFileSync(file, withNetwork(readFileSync(file, "utf8"), text));
  log("\nWrote the network's section of docs/benchmarks.md");
}
process.exit(0);
