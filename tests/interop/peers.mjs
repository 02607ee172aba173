/** Peers to talk with: ours, each a process of its own, and js-libp2p in this one. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// js-libp2p needs Node.js 22 for nothing but these two.
globalThis.WebSocket ??= (await import("ws")).WebSocket;
Promise.withResolvers ??= function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
const { createLibp2p } = await import("libp2p");
const { tcp } = await import("@libp2p/tcp");
const { webSockets } = await import("@libp2p/websockets");
const { noise } = await import("@chainsafe/libp2p-noise");
const { yamux } = await import("@chainsafe/libp2p-yamux");
const { identify } = await import("@libp2p/identify");
const { ping } = await import("@libp2p/ping");
const { kadDHT, passthroughMapper } = await import("@libp2p/kad-dht");
export const { lpStream } = await import("@libp2p/utils");
export const { multiaddr } = await import("@multiformats/multiaddr");
export const { peerIdFromString } = await import("@libp2p/peer-id");

export const program = process.env.KWAAINET_BIN;
if (!program) throw new Error("KWAAINET_BIN says which `kwaainet` is tested: npm test -- --only interop");

/** A peer of ours; `stop` waits until it has left, and `kill` does not ask it. */
export async function ourPeer(...args) {
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-peer-"));
  const peer = await peerIn(folder, ...args);
  return {
    ...peer,
    kill() {
      peer.kill();
      rmSync(folder, { recursive: true });
    },
    async stop() {
      await peer.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

/** The same with a folder that stays. */
export async function peerIn(folder, ...args) {
  const child = spawn(
    program,
    ["peer", "--json", "--echo", "--control", "0", "--data-dir", folder, ...args],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    new Promise((resolve) => lines.once("line", (text) => resolve([text]))),
    ended.then((code) => Promise.reject(new Error(`kwaainet peer ended with ${code}`))),
  ]);
  const told = JSON.parse(line);
  const over = (transport) => told.addresses.find((address) => transport.test(address));
  return {
    ...told,
    tcp: over(/tcp\/\d+\/p2p/),
    ws: over(/\/ws\/p2p/),
    kill() {
      child.kill("SIGKILL");
    },
    async stop() {
      child.kill("SIGTERM");
      assert.equal(await ended, 0, "a peer that is asked to leave does so");
    },
  };
}

export const jsPeer = (listen) =>
  createLibp2p({
    addresses: { listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: "/kwaainet/kad/1.0.0",
        clientMode: false,
        peerInfoMapper: passthroughMapper,
      }),
    },
  });
