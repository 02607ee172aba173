/**
 * js-libp2p and `kwaainet peer`: each dials the other, over TCP and WebSocket; ours pings it, identify, messages of 64
 * bytes to 1 MB both ways, and a routing table in which one finds the other through a third.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { jsPeer, lpStream, multiaddr, ourPeer, peerIdFromString, program, until } from "./peers.mjs";

const ECHO = "/kwaainet/test/echo/1";
const pattern = (length) => new Uint8Array(length).map((_, at) => (at * 31) >> 3);

describe("js-libp2p", { timeout: 120_000 }, () => {
  let ours;
  let js;
  /** They stay until js-libp2p has stopped, which dials whom it has heard of, and does not catch that nobody is there. */
  const others = [];

  before(async () => {
    ours = await ourPeer();
    js = await jsPeer(["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"]);
  });
  after(async () => {
    await js?.stop();
    for (const peer of [ours, ...others]) await peer?.stop();
  });

  for (const transport of ["tcp", "ws"]) {
    test(`dials our peer over ${transport}: identify, messages both ways`, async () => {
      const address = multiaddr(ours[transport]);
      const connection = await js.dial(address, { force: true });
      const known = await until("identify", async () => {
        const peer = await js.peerStore.get(connection.remotePeer);
        return peer.metadata.has("AgentVersion") ? peer : undefined;
      });
      assert.match(Buffer.from(known.metadata.get("AgentVersion")).toString(), /^kwaainet\/\d/);
      assert.ok(known.protocols.includes("/kwaainet/kad/1.0.0"));
      assert.ok(known.protocols.includes("/kwaainet/records/1"));
      const stream = await connection.newStream(ECHO);
      const messages = lpStream(stream, { maxDataLength: 2 << 20 });
      for (const length of [64, 8192, 65_537, 1 << 20, 2_000_000]) {
        await messages.write(pattern(length));
        const back = (await messages.read()).subarray();
        assert.equal(Buffer.compare(back, pattern(length)), 0, `${length} bytes come back as they were`);
      }
      await stream.close();
    });

    test(`is dialled by \`kwaainet ping\` over ${transport}`, () => {
      const addresses = js.getMultiaddrs().map(String);
      const at = addresses.find((address) => address.includes("/ws") === (transport === "ws"));
      // In a process of its own js-libp2p would answer meanwhile; here it must not be blocked.
      return new Promise((resolve, reject) => {
        const child = spawn(program, ["ping", at, "--count", "2", "--json"]);
        let said = "";
        child.stdout.on("data", (data) => (said += data));
        child.stderr.on("data", (data) => (said += data));
        child.once("exit", (code) => {
          try {
            assert.equal(code, 0, said);
            const { peer, ms } = JSON.parse(said);
            assert.equal(peer, js.peerId.toString());
            assert.equal(ms.length, 2);
            resolve();
          } catch (error) {
            reject(error);
          }
        });
      });
    });
  }

  test("a message that is too long ends its stream, and nothing else", async () => {
    const connection = await js.dial(multiaddr(ours.tcp));
    const stream = await connection.newStream(ECHO);
    const messages = lpStream(stream, { maxDataLength: 8 << 20 });
    // It is reset, so that whoever still writes does not wait for ever.
    await assert.rejects(async () => {
      await messages.write(new Uint8Array((2 << 20) + 1));
      await messages.read();
    });
    const next = lpStream(await connection.newStream(ECHO));
    await next.write(pattern(10));
    assert.equal((await next.read()).subarray().length, 10);
  });

  test("finds a peer of ours through another", async () => {
    const third = await ourPeer("--bootstrap", ours.tcp);
    others.push(third);
    await js.dial(multiaddr(ours.tcp));
    const found = await until("the third peer", async () => {
      for await (const event of js.services.dht.findPeer(peerIdFromString(third.peer))) {
        if (event.name === "FINAL_PEER") return event.peer;
      }
      return undefined;
    });
    assert.equal(found.id.toString(), third.peer);
  });

  test("what is wrong with an address is said before anything is dialled", () => {
    const { status, stderr } = spawnSync(program, ["ping", "/ip4/127.0.0.1/tcp/1"], { encoding: "utf8" });
    assert.equal(status, 2);
    assert.match(stderr, /whose address/);
  });
});
