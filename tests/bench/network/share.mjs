/**
 * A visitor who helps others fetches a model: from its site's server, from one peer, from three. Everybody gives at the same
 * speed, the server too: what is compared is whether sources add up, and on one machine a server without a limit would be its disk.
 */
import { execFile } from "node:child_process";
import { cpSync, createReadStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { slow } from "../../e2e/support/sites.mjs";
import {
  closeSites,
  dist,
  MODEL,
  modelFile,
  startVisitor,
  theSites,
  until,
} from "../../e2e/support/world.mjs";
import { ourPeer, program } from "../../interop/our-peer.mjs";

/** Megabytes a second of each source, as in `kwaainet peer --upload`. */
export const UPLOAD = 4;
const HELPFUL = ["Run AI for me", "Keep the model on this device", "Help other visitors"];
const PEERS = [0, 1, 3];

/** @returns for each number of peers, what was measured in each round; and what a lender weighs */
export async function benchShare({ rounds, log }) {
  const sites = await theSites();
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-share-"));
  const models = JSON.parse(readFileSync(join(dist, "models.json"), "utf8"));
  const files = createServer((request, response) => createReadStream(join(dist, request.url)).pipe(response));
  await new Promise((ready) => files.listen(0, "127.0.0.1", ready));
  const catalogue = [
    ...["--catalogue", `http://127.0.0.1:${files.address().port}/models.json`],
    ...["--catalogue-key", models.key],
  ];
  const home = (which) => join(folder, `peer-${which}`);
  const lenders = [];
  const results = Object.fromEntries(PEERS.map((peers) => [peers, []]));
  try {
    await promisify(execFile)(program, ["model", "pull", MODEL, "--data-dir", home(0), ...catalogue]);
    // Before any has started, and has an identity.
    const homes = Array.from({ length: Math.max(...PEERS) }, (_, which) => which);
    for (const which of homes.slice(1)) cpSync(home(0), home(which), { recursive: true });
    for (const which of homes) {
      const known = lenders.flatMap(({ ws }) => ["--bootstrap", ws]);
      const place = ["--data-dir", home(which), ...catalogue, ...known];
      const limits = ["--relay", "--upload", String(UPLOAD), "--listen", "/ip4/127.0.0.1/tcp/0/ws"];
      lenders.push(await ourPeer(...place, ...limits));
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const peers of PEERS) {
        sites.reset();
        sites.fault(slow(modelFile, UPLOAD * 1e6));
        const measured = await fetched(lenders.slice(0, peers).map(({ ws }) => ws));
        log(`  ${peers} peers: ${JSON.stringify(measured)}`);
        results[peers].push(measured);
      }
    }
    return results;
  } finally {
    for (const lender of lenders.reverse()) await lender.stop();
    files.close();
    await closeSites();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fetched(known) {
  const visitor = await startVisitor();
  try {
    const attributes = known.length > 0 ? { bootstrap: known.join(",") } : {};
    const tab = await visitor.open({ attributes });
    // The model is fetched from the choice on.
    await tab.page.evaluate(() => {
      window.kwaainet.on("progress", (progress) => {
        if (progress.stage !== "fetch") return;
        window.last = { ...progress, at: performance.now() };
        window.began ??= window.last.at;
      });
    });
    await tab.choose(...(known.length > 0 ? HELPFUL : HELPFUL.slice(0, 2)));
    // What joining takes is measured for itself (wire.mjs).
    await until("joining", async () => {
      const { purposes } = await tab.page.evaluate(() => window.kwaainet.consent.status());
      if (known.length === 0) return purposes.length > 0;
      if (!purposes.includes("helpOthers")) return false;
      const { state, peers } = await tab.page.evaluate(() => window.kwaainet.network.status());
      return state === "joined" && peers.length >= known.length;
    });
    return await tab.page.evaluate(async () => {
      await window.kwaainet.chat.completions.create({
        messages: [{ role: "user", content: "Hi" }],
        max_tokens: 1,
      });
      const { began, last } = window;
      return {
        seconds: (last.at - began) / 1000,
        rate: last.total / 1000 / (last.at - began),
        fromPeers: ((last.fromPeers ?? 0) / last.total) * 100,
      };
    });
  } finally {
    await visitor.close();
  }
}
