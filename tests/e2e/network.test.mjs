/** The network in a browser's worker, with peers that no browser made: `kwaainet peer` and js-libp2p. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { WebSocketServer } from "ws";
import { jsPeer, lpStream, multiaddr, ourPeer } from "../interop/peers.mjs";
import { networkedSite, prepare, talk } from "./support/networked.mjs";
import { closeSites, startVisitor, theSites } from "./support/world.mjs";

const ECHO = "/kwaainet/test/echo/1";

let visitor;
let page;

before(async () => {
  const url = networkedSite(await theSites());
  visitor = await startVisitor();
  page = await visitor.context.newPage();
  page.on("console", (message) => message.type() === "error" && console.log(`  page: ${message.text()}`));
  await page.goto(url);
  await prepare(page);
});
after(async () => {
  await visitor?.close();
  await closeSites();
});

describe("a worker of the network", () => {
  test("talks with kwaainet peer", async () => {
    const peer = await ourPeer("--listen", "/ip4/127.0.0.1/tcp/0/ws");
    try {
      await talk(page, peer.ws);
    } finally {
      await peer.stop();
    }
  });

  test("talks with kwaainet peer over WebRTC, which needs no certificate that somebody has signed", async () => {
    const peer = await ourPeer("--listen", "/ip4/127.0.0.1/udp/0/webrtc-direct");
    try {
      await talk(page, peer.webrtc);
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
      await talk(page, String(multiaddr(peer.getMultiaddrs()[0])));
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

  test("does not talk with who has another certificate than the address says", async () => {
    const [one, other] = await Promise.all(
      [1, 2].map(() => ourPeer("--listen", "/ip4/127.0.0.1/udp/0/webrtc-direct")),
    );
    const hash = /certhash\/([^/]+)/;
    try {
      const error = await page.evaluate(
        async (at) => {
          const { node } = await window.join(at);
          return node.dial(at).then(
            () => "dialled",
            (reason) => String(reason),
          );
        },
        one.webrtc.replace(hash.exec(one.webrtc)[1], hash.exec(other.webrtc)[1]),
      );
      assert.match(error, /cannot be reached.*the connection failed/);
    } finally {
      await Promise.all([one.stop(), other.stop()]);
    }
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
