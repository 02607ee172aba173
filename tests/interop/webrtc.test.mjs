/**
 * WebRTC Direct against what nobody here wrote: js-libp2p in Node.js, in both directions, and js-libp2p in Chromium, with
 * both versions of the protocol.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { startChromium } from "../e2e/support/browser.mjs";
import { ourPeer, program } from "./peers.mjs";

const { direct, exchange } = await import("./webrtc/exchange.mjs");
const LISTEN = "/ip4/127.0.0.1/udp/0/webrtc-direct";
const TIMES = 10;

function complete(told) {
  assert.match(told.agent, /^kwaainet\/\d/);
  assert.equal(told.pings.length, 30);
  assert.equal(Object.keys(told.echo).length, 4);
}

/** Nothing stalled: the retransmissions of a loaded machine take less. */
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

describe("WebRTC Direct", { timeout: 300_000 }, () => {
  let ours;

  before(async () => {
    ours = await ourPeer("--listen", LISTEN);
  });
  after(() => ours?.stop());

  test("js-libp2p in Node.js dials ours", async () => {
    complete(await exchange(ours.addresses[0]));
  });

  test("ours dials js-libp2p in Node.js", async () => {
    const js = await direct([LISTEN]);
    try {
      const child = spawn(program, ["ping", js.getMultiaddrs()[0].toString(), "--count", "5", "--json"]);
      let said = "";
      for (const output of [child.stdout, child.stderr]) output.on("data", (data) => (said += data));
      const code = await new Promise((resolve) => child.once("exit", resolve));
      assert.equal(code, 0, said);
      const { peer, ms } = JSON.parse(said);
      assert.equal(peer, js.peerId.toString());
      assert.equal(ms.length, 5);
    } finally {
      await js.stop();
    }
  });

  test("an address without the hash of a certificate is not dialled", () => {
    const at = `/ip4/127.0.0.1/udp/9/webrtc-direct/p2p/${ours.peer}`;
    const { status } = spawnSync(program, ["ping", at], { encoding: "utf8" });
    assert.notEqual(status, 0);
  });

  test("the hash of the certificate stays the same", async () => {
    const [first, second] = [0, 1].map(() => mkdtempSync(join(tmpdir(), "kwaainet-peer-")));
    const hashes = [];
    for (const folder of [first, second]) {
      const peer = await ourPeer("--listen", LISTEN, "--data-dir", folder);
      hashes.push(/certhash\/([^/]+)/.exec(peer.addresses[0])[1]);
      // It is gone when the peer has stopped.
      if (folder === first) cpSync(first, second, { recursive: true });
      await peer.stop();
    }
    assert.equal(hashes[0], hashes[1]);
  });

  describe("in Chromium", () => {
    let server;
    let url;

    before(async () => {
      const { outputFiles } = await build({
        entryPoints: [fileURLToPath(new URL("./webrtc/page.mjs", import.meta.url))],
        bundle: true,
        format: "iife",
        platform: "browser",
        write: false,
      });
      server = createServer(({ url: path }, response) => {
        const script = path === "/page.js";
        response.setHeader("content-type", script ? "text/javascript" : "text/html");
        response.end(script ? outputFiles[0].text : '<meta charset="utf-8"><script src="/page.js"></script>');
      });
      await new Promise((bound) => server.listen(0, "127.0.0.1", bound));
      url = `http://127.0.0.1:${server.address().port}/`;
    });
    after(() => server?.close());

    async function inPages(version, times, args = []) {
      const profile = mkdtempSync(join(tmpdir(), "kwaainet-webrtc-"));
      const chromium = await startChromium({ profile, args });
      try {
        const told = [];
        for (let time = 0; time < times; time += 1) {
          const page = await chromium.context.newPage();
          await page.goto(url);
          told.push(
            await page.evaluate(
              ([to, which]) => globalThis.exchange(to, which),
              [ours.addresses[0], version],
            ),
          );
          await page.close();
        }
        return told;
      } finally {
        await chromium.close();
        rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
      }
    }

    test(`js-libp2p dials ours, ${TIMES} times out of ${TIMES}`, async (context) => {
      const told = await inPages(1, TIMES);
      told.forEach(complete);
      for (const length of Object.keys(told[0].echo)) {
        context.diagnostic(
          `echo of ${length} bytes: ${median(told.map(({ echo }) => echo[length])).toFixed(1)} ms`,
        );
      }
      context.diagnostic(`connect: ${median(told.map(({ connect }) => connect)).toFixed(0)} ms`);
    });

    test("a browser that does not let its offer be changed dials ours with version 2", async () => {
      const strict = ["--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/"];
      // The trial is on: with version 1 the browser itself refuses.
      await assert.rejects(inPages(1, 1, strict), /InvalidModificationError|non-acceptable/);
      (await inPages(2, 3, strict)).forEach(complete);
    });
  });
});
