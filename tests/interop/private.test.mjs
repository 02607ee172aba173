/**
 * Private networks: js-libp2p and `kwaainet peer` with the same swarm.key speak with each other over TCP and WebSocket;
 * with another, or without one, nobody does. Who is not on a peer's list is shown out; and a peer may hide.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { jsPeer, lpStream, multiaddr, ourPeer, program, until } from "./peers.mjs";

const { generateKey, preSharedKey } = await import("@libp2p/pnet");

/** A key as js-libp2p makes it. */
function swarmKey() {
  const key = new Uint8Array(95);
  generateKey(key);
  return key;
}

/** `kwaainet ping`, while this process goes on: js-libp2p in it must answer. */
async function ping(...args) {
  const child = spawn(program, ["ping", "--count", "1", ...args]);
  let said = "";
  for (const from of [child.stdout, child.stderr]) from.on("data", (data) => (said += data));
  return { code: await new Promise((resolve) => child.once("exit", resolve)), said };
}

describe("a private network", { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-keys-"));
  const [right, wrong] = ["right", "wrong"].map((name) => join(folder, `${name}.key`));
  const keys = [swarmKey(), swarmKey()];
  const listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"];
  let ours;
  let member;
  let stranger;

  before(async () => {
    for (const [at, file] of [right, wrong].entries()) writeFileSync(file, keys[at]);
    ours = await ourPeer("--psk", right);
    [member, stranger] = await Promise.all(
      keys.map((psk) => jsPeer(listen, { connectionProtector: preSharedKey({ psk }) })),
    );
  });
  after(async () => {
    for (const peer of [member, stranger, ours]) await peer?.stop();
    rmSync(folder, { recursive: true });
  });

  for (const transport of ["tcp", "ws"]) {
    test(`js-libp2p with the same key is a member, over ${transport}`, async () => {
      const stream = await member.dialProtocol(multiaddr(ours[transport]), "/kwaainet/test/echo/1");
      const messages = lpStream(stream);
      await messages.write(new Uint8Array(70_000).fill(7));
      assert.equal((await messages.read()).subarray().length, 70_000);
      await member.hangUp(multiaddr(ours[transport]));
      const at = member
        .getMultiaddrs()
        .find((address) => `${address}`.includes("/ws") === (transport === "ws"));
      const { code, said } = await ping(`${at}`, "--psk", right);
      assert.equal(code, 0, said);
    });
  }

  test("js-libp2p with another key is not, and each side says so", async () => {
    await assert.rejects(stranger.dial(multiaddr(ours.tcp), { signal: AbortSignal.timeout(15_000) }));
    await until("a line about the key", () =>
      ours.notes.some((line) => /127\.0\.0\.1 was refused.*--psk/.test(line)),
    );
    const at = stranger.getMultiaddrs().find((address) => !`${address}`.includes("/ws"));
    const { code, said } = await ping(`${at}`, "--psk", right);
    assert.notEqual(code, 0);
    assert.match(said, /the keys \(--psk\) may differ/);
  });

  test("without a key, and over QUIC, there is no way in", async () => {
    const { code, said } = await ping(ours.tcp);
    assert.notEqual(code, 0, said);
    assert.ok(!ours.addresses.some((address) => address.includes("quic")), `${ours.addresses}`);
    const quic = ["peer", "--psk", right, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    const { status, stderr } = spawnSync(program, quic, { encoding: "utf8" });
    assert.equal(status, 2);
    assert.match(stderr, /QUIC has no place/);
  });

  test("what is no key is said", () => {
    for (const text of [
      "",
      "/key/swarm/psk/1.0.0/\n/base16/\nabc",
      `/key/swarm/psk/1.0.0/\n/base16/\n${"é".repeat(32)}`,
    ]) {
      writeFileSync(wrong, text);
      const { status, stderr } = spawnSync(program, ["ping", ours.tcp, "--psk", wrong], { encoding: "utf8" });
      assert.equal(status, 2, stderr);
      assert.match(stderr, /64 hexadecimal digits/);
    }
  });
});

describe("a peer with a list", { timeout: 60_000 }, () => {
  test("lets in who is on it, and says who was not", async () => {
    const [friend, other] = [await jsPeer(["/ip4/127.0.0.1/tcp/0"]), await jsPeer(["/ip4/127.0.0.1/tcp/0"])];
    const closed = await ourPeer("--allow", `${friend.peerId}`);
    try {
      await friend.dialProtocol(multiaddr(closed.tcp), "/kwaainet/test/echo/1");
      await assert.rejects(other.dialProtocol(multiaddr(closed.tcp), "/kwaainet/test/echo/1"));
      const line = new RegExp(`${other.peerId} was refused: it is none of those who may connect`);
      await until("a line about the stranger", () => closed.notes.some((note) => line.test(note)));
      assert.ok(!closed.notes.some((note) => note.includes(`${friend.peerId} was refused`)));
    } finally {
      for (const peer of [friend, other, closed]) await peer.stop();
    }
  });

  test("wants ids", () => {
    const { status, stderr } = spawnSync(program, ["peer", "--allow", "me"], { encoding: "utf8" });
    assert.equal(status, 2);
    assert.match(stderr, /me is no peer's id/);
  });
});

describe("a peer that hides", { timeout: 60_000 }, () => {
  test("is reached through its relay, and says no address of its own", async () => {
    const relay = await ourPeer("--relay");
    const hidden = await ourPeer("--hidden", "--bootstrap", relay.tcp);
    try {
      assert.ok(hidden.addresses.length > 0);
      for (const address of hidden.addresses)
        assert.ok(address.includes(`/p2p/${relay.peer}/p2p-circuit/p2p/`));
      const { code, said } = await ping(hidden.addresses[0]);
      assert.equal(code, 0, said);
      const metrics = await (await fetch(`http://127.0.0.1:${relay.control}/metrics`)).text();
      assert.match(metrics, /^kwaainet_relay_reservations 1$/m);
    } finally {
      for (const peer of [hidden, relay]) await peer.stop();
    }
  });

  test("needs a relay", async () => {
    const plain = await ourPeer();
    try {
      await assert.rejects(ourPeer("--hidden", "--bootstrap", plain.tcp), /are they relays/);
    } finally {
      await plain.stop();
    }
  });
});
