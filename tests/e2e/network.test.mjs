/**
 * The network in a browser's worker, with peers that no browser made: `kwaainet peer` and js-libp2p, over WebSocket. The
 * page has a node's half, as the node's worker will. Needs `npm run build` and `node sdk-wasm/build.mjs --suites`.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { headerRules, headersFor } from "../../cdn/headers.mjs";
import { jsPeer, lpStream, multiaddr, ourPeer } from "../interop/peers.mjs";
import { closeSites, startVisitor, theSites } from "./support/world.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const assets = readdirSync(join(root, "cdn/dist/assets"));
const asset = (pattern) => `/assets/${assets.find((name) => pattern.test(name))}`;
const ECHO = "/kwaainet/test/echo/1";

let visitor;
let page;

before(async () => {
  const sites = await theSites();
  const { "Content-Security-Policy": _, ...headers } = headersFor(headerRules({ csp: "" }), "/");
  const serve = (path, body, type) =>
    sites.page(path, body, { host: "cdn.localhost", headers: { ...headers, "content-type": type } });
  const file = (end) => readFileSync(join(root, "sdk-wasm/pkg/suites", end));
  serve("/pkg/suites/kwaainet.js", file("kwaainet.js"), "text/javascript");
  serve("/pkg/suites/kwaainet_bg.wasm", file("kwaainet_bg.wasm"), "application/wasm");
  const empty = serve("/networked", "<!doctype html><title>network</title>", "text/html");
  visitor = await startVisitor();
  page = await visitor.context.newPage();
  page.on("console", (message) => message.type() === "error" && console.log(`  page: ${message.text()}`));
  await page.goto(empty);
  await page.evaluate(
    async ([worker, wasm]) => {
      const glue = await import("/pkg/suites/kwaainet.js");
      await glue.default({ module_or_path: "/pkg/suites/kwaainet_bg.wasm" });
      window.join = async (...known) => {
        const { port1, port2 } = new MessageChannel();
        const network = new Worker(worker);
        const seed = crypto.getRandomValues(new Uint8Array(32));
        network.postMessage({ wasm: new URL(wasm, location.href).href, seed, known }, [port2]);
        return { network, node: await glue.connect(port1) };
      };
    },
    [asset(/^network-.*\.js$/), asset(/^kwaainet-network-.*\.wasm$/)],
  );
});
after(async () => {
  await visitor?.close();
  await closeSites();
});

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1].toFixed(1);

/** What every peer must bear. */
async function talk(address) {
  const found = await page.evaluate(async (at) => {
    const { network, node } = await window.join(at);
    const dialled = await node.dial(at);
    const echoes = {};
    for (const [bytes, times] of [
      [64, 20],
      [8192, 20],
      [65_536, 10],
      [1_000_000, 5],
      [2_000_000, 2],
    ]) {
      echoes[bytes] = await node.echo(at, bytes, times).then((took) => [...took]);
    }
    const streams = await node.streams(at, 32);
    const peers = node.peers();
    node.disconnect(at);
    const again = await node.dial(at);
    network.terminate();
    return { dialled, echoes, streams, peers, again };
  }, address);
  assert.equal(found.streams, 32);
  assert.deepEqual(found.peers, [address.split("/p2p/")[1]]);
  const told = Object.entries(found.echoes).map(([bytes, took]) => `${bytes} B ${median(took)} ms`);
  console.log(`  dialled in ${found.dialled.toFixed(0)} ms; echoes: ${told.join(", ")}`);
}

describe("a worker of the network", () => {
  test("talks with kwaainet peer", async () => {
    const peer = await ourPeer("--listen", "/ip4/127.0.0.1/tcp/0/ws");
    try {
      await talk(peer.ws);
    } finally {
      await peer.stop();
    }
  });

  test("talks with js-libp2p", async () => {
    const peer = await jsPeer(["/ip4/127.0.0.1/tcp/0/ws"]);
    await peer.handle(
      ECHO,
      async (stream) => {
        const messages = lpStream(stream, { maxDataLength: 2 << 20 });
        try {
          for (;;) await messages.write(await messages.read());
        } catch {
          // The other side has said all.
        }
      },
      { maxInboundStreams: 64 },
    );
    try {
      await talk(String(multiaddr(peer.getMultiaddrs()[0])));
    } finally {
      await peer.stop();
    }
  });

  test("is told when a peer dies, and finds the next one", async () => {
    const first = await ourPeer("--listen", "/ip4/127.0.0.1/tcp/0/ws");
    const second = await ourPeer("--listen", "/ip4/127.0.0.1/tcp/0/ws");
    await page.evaluate(
      async ([at, next]) => {
        window.joined = await window.join(at, next);
        await window.joined.node.dial(at);
        window.endless = window.joined.node.echo(at, 500_000, 1_000_000).then(
          () => "ended",
          (error) => String(error),
        );
      },
      [first.ws, second.ws],
    );
    await page.waitForTimeout(300);
    first.kill();
    assert.match(await page.evaluate(() => window.endless), /broke|cannot be reached|ended/);
    const took = await page.evaluate(
      async ([gone, at]) => {
        const { node } = window.joined;
        while (node.peers().includes(gone)) await new Promise((done) => setTimeout(done, 20));
        await node.dial(at);
        return [...(await node.echo(at, 8192, 1))];
      },
      [first.ws.split("/p2p/")[1], second.ws],
    );
    assert.equal(took.length, 1);
    await second.stop();
  });

  test("says why a WebSocket ended, and keeps nothing of what is too much", async () => {
    const strangers = {
      text: [(socket) => socket.send("/multistream/1.0.0\n"), /the peer sent text/],
      flood: [
        (socket) => socket.send(Buffer.alloc(5 << 20)),
        /the peer sent \d+ bytes more than could be read/,
      ],
      goodbye: [(socket) => socket.close(4321, "closed for the night"), /code 4321 closed for the night/],
      silence: [(socket) => socket.terminate(), /code 1006/],
    };
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    server.on("connection", (socket, { url }) => strangers[url.slice(1)][0](socket));
    await once(server, "listening");
    const { port } = server.address();
    const id = "12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";
    const dial = (at) =>
      page.evaluate(async (address) => {
        const { network, node } = await window.join(address);
        const outcome = await node.dial(address).then(
          () => "dialled",
          (reason) => String(reason),
        );
        network.terminate();
        return outcome;
      }, at);
    try {
      for (const [path, [, why]] of Object.entries(strangers)) {
        assert.match(await dial(`/ip4/127.0.0.1/tcp/${port}/x-parity-ws/%2F${path}/p2p/${id}`), why);
      }
    } finally {
      for (const socket of server.clients) socket.terminate();
      server.close();
    }
    const gone = `/ip4/127.0.0.1/tcp/${port}/ws/p2p/${id}`;
    assert.match(await dial(gone), /no WebSocket could be opened to ws:.*browsers do not tell why/);
  });

  test("refuses what is no WebSocket, with words", async () => {
    const error = await page.evaluate(async () => {
      const { node } = await window.join();
      const at = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";
      return node.dial(at).then(
        () => "dialled",
        (reason) => String(reason),
      );
    });
    assert.match(error, /cannot be reached/);
  });
});
