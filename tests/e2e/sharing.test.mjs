/**
 * Two browsers and a native peer share a model: who agreed to help others joins, fetches from peers what they have, and lends
 * what it has. Needs `npm run build` and KWAAINET_BIN.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createReadStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { ourPeer, program } from "../interop/our-peer.mjs";
import {
  closeSites,
  dist,
  MODEL,
  modelFile,
  pageWithTag,
  startVisitor,
  theSites,
  until,
} from "./support/world.mjs";

const HELPFUL = ["Run AI for me", "Keep the model on this device", "Help other visitors"];
const models = JSON.parse(readFileSync(join(dist, "models.json"), "utf8"));
const [{ bytes }] = JSON.parse(
  /id="kwaainet-deployment">([^<]*)</.exec(readFileSync(join(dist, "frame.html"), "utf8"))[1],
).models;

let sites;
let files;
let folder;
let relay;

before(async () => {
  sites = await theSites();
  folder = mkdtempSync(join(tmpdir(), "kwaainet-lender-"));
  // By its number: names under `localhost` are for browsers.
  files = createServer((request, response) => createReadStream(join(dist, request.url)).pipe(response));
  await new Promise((ready) => files.listen(0, "127.0.0.1", ready));
  const catalogue = [
    "--catalogue",
    `http://127.0.0.1:${files.address().port}/models.json`,
    "--catalogue-key",
    models.key,
  ];
  const place = ["--data-dir", folder, ...catalogue];
  await promisify(execFile)(program, ["model", "pull", MODEL, ...place]);
  // Slow enough that one is worth less than two.
  const listen = ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/webrtc-direct"];
  const addresses = listen.flatMap((address) => ["--listen", address]);
  relay = await ourPeer(...place, "--relay", "--upload", "4", ...addresses);
});
after(async () => {
  await relay?.stop();
  rmSync(folder, { recursive: true, force: true });
  files?.close();
  await closeSites();
});

const network = (tab) => tab.page.evaluate(() => window.kwaainet.network.status());
const joined = async (tab) => {
  let seen;
  const reached = until("joining", async () => {
    const { purposes } = await tab.page.evaluate(() => window.kwaainet.consent.status());
    seen = purposes;
    if (!purposes.includes("helpOthers")) return false;
    const status = await network(tab);
    seen = status;
    return status.state === "joined" && status.peers.length > 0 && status;
  });
  return reached.catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(seen)}; ${tab.messages.join("; ")}`);
  });
};

/** Fetches the model, and says what was told of it last. */
const fetchModel = (tab) =>
  tab.page.evaluate(async () => {
    let last;
    window.kwaainet.on("progress", (progress) => {
      if (progress.stage === "fetch") last = progress;
    });
    await window.kwaainet.chat.completions.create({
      messages: [{ role: "user", content: "Hi" }],
      max_tokens: 1,
    });
    return last;
  });

describe("a network of two browsers and a native peer", () => {
  test("who only runs the model is not asked to help where nobody is named, and calls nobody", async () => {
    sites.reset();
    const visitor = await startVisitor({ warm: true });
    try {
      const tab = await visitor.open();
      const outcome = await tab.attempt(() => window.kwaainet.network.join());
      assert.equal(outcome.error.code, "consentRequired");
      assert.equal((await network(tab)).state, "off");
      await tab.panel();
      await tab.click("button", "Choose");
      assert.doesNotMatch(await tab.text(), /Help other visitors/);
      assert.deepEqual(
        sites.log.filter(({ path }) => /network/.test(path)),
        [],
      );
    } finally {
      await visitor.close();
    }
  });

  test("the model comes from peers; the server sees only the rest", async () => {
    sites.reset();
    const attributes = { bootstrap: relay.ws };
    // Chromium has announced that it will mind offers that a page has changed; ours are the browser's own.
    const strict = ["--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/"];
    const [one, other] = [await startVisitor(), await startVisitor({ args: strict })];
    try {
      const first = await one.open({ attributes });
      const began = Date.now();
      await first.choose(...HELPFUL);
      const chosen = Date.now();
      await joined(first);
      console.log(`  joined ${Date.now() - chosen} ms after the choice was seen`);
      assert.ok(chosen - began < 30_000);
      const told = await fetchModel(first);
      console.log(`  first: ${told.fromPeers} of ${told.total} bytes from ${told.peers} peers`);
      assert.ok(told.fromPeers > 0);
      assert.equal(told.total, bytes);
      const served = sites.bytes(modelFile);
      assert.ok(served + told.fromPeers >= bytes && served < bytes, `${served} bytes by the server`);
      const { peers, peer: firstId } = await network(first);
      assert.equal(peers[0].via, "webSocket");
      assert.equal(peers[0].address, undefined, "no address for a site");

      // On another site, whose page never saw the first.
      const reaching = { bootstrap: relay.webrtc };
      const page = pageWithTag(sites.cdn, reaching);
      sites.page("/there", page, { host: "evil.localhost" });
      const second = await other.open({ attributes: reaching, path: "/there" });
      await second.choose(...HELPFUL);
      await joined(second);
      const got = await fetchModel(second);
      console.log(`  second: ${got.fromPeers} of ${got.total} bytes from ${got.peers} peers`);
      const reached = (await network(second)).peers;
      console.log(
        `  second talks with ${reached.map(({ via, received }) => `${via} ${received}`).join(", ")}`,
      );
      const fromFirst = reached.find(({ peer }) => peer === firstId);
      assert.equal(fromFirst?.via, "relayed", "browsers do not show each other their address");
      assert.ok(fromFirst.received > 1_000_000, `${fromFirst.received} bytes of the first browser`);
      const fromRelay = reached.find(({ peer }) => relay.webrtc.endsWith(peer));
      assert.equal(fromRelay?.via, "webRtc");
      assert.ok(fromRelay.received > 1_000_000, `${fromRelay.received} bytes of the native peer`);
    } finally {
      await one.close();
      await other.close();
    }
  });

  test("who takes the help back leaves at once, and keeps the model", async () => {
    sites.reset();
    const visitor = await startVisitor({ warm: true });
    try {
      const tab = await visitor.open({ attributes: { bootstrap: relay.ws } });
      await tab.choose("Help other visitors");
      const { peer } = await joined(tab);
      const seen = async () => {
        const answer = await fetch(`http://127.0.0.1:${relay.control}/peers`);
        return (await answer.text()).includes(peer);
      };
      await until("the relay sees the visitor", seen);
      await tab.choose("Help other visitors");
      await until("leaving", async () => (await network(tab)).state === "off");
      await until("the relay no longer sees the visitor", async () => !(await seen()));
      const { text } = await tab.ask("Hi", { max_tokens: 4 });
      assert.notEqual(text, "");
      assert.equal(sites.bytes(modelFile), 0, "the model was kept");
    } finally {
      await visitor.close();
    }
  });

  test("a lender that reloads and a relay that dies in the middle cost nothing", async () => {
    sites.reset();
    const attributes = { bootstrap: relay.ws };
    const [one, other] = [await startVisitor({ warm: true }), await startVisitor()];
    try {
      const lender = await one.open({ attributes });
      await lender.choose("Help other visitors");
      await joined(lender);
      const tab = await other.open({ attributes });
      await tab.page.evaluate(() => {
        window.kwaainet.on("progress", (progress) => {
          if (progress.stage === "fetch") window.last = progress;
        });
      });
      await tab.choose(...HELPFUL);
      await joined(tab);
      const answer = tab.ask("Hi", { max_tokens: 4 });
      const got = (many) =>
        until(`${many} bytes from peers`, () =>
          tab.page.evaluate((least) => window.last?.fromPeers > least, many),
        );
      await got(2 << 20);
      await lender.page.reload();
      await got(8 << 20);
      relay.kill();
      relay = null;
      assert.notEqual((await answer).text, "");
      const last = await tab.page.evaluate(() => window.last);
      assert.deepEqual([last.done, last.total], [bytes, bytes]);
      assert.ok(last.fromPeers < bytes);
      await until("the loss is told", async () => (await network(tab)).state !== "joined");
    } finally {
      await one.close();
      await other.close();
    }
  });
});
