/** Peers of ours, each a process of its own. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const program = process.env.KWAAINET_BIN;
if (!program) throw new Error("KWAAINET_BIN says which `kwaainet` is tested: npm test -- --only interop");

/** A peer of ours; `stop` waits until it has left, and `kill` does not ask it. */
export const ourPeer = (...args) => peerThrough([], ...args);

/** The same, started by another program: `ip netns exec NAME`. */
export async function peerThrough(starter, ...args) {
  const own = args.indexOf("--data-dir") + 1;
  const folder = own > 0 ? args[own] : mkdtempSync(join(tmpdir(), "kwaainet-peer-"));
  const place = own > 0 ? [] : ["--data-dir", folder];
  const [command, ...before] = [...starter, program];
  const child = spawn(command, [...before, "peer", "--json", "--echo", "--control", "0", ...place, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const notes = [];
  createInterface({ input: child.stderr }).on("line", (line) => notes.push(line));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    new Promise((resolve) => lines.once("line", (text) => resolve([text]))),
    ended.then((code) => Promise.reject(new Error(`kwaainet peer ended with ${code}: ${notes.join("\n")}`))),
  ]);
  const told = JSON.parse(line);
  const over = (transport) => told.addresses.find((address) => transport.test(address));
  return {
    ...told,
    pid: child.pid,
    notes,
    tcp: over(/tcp\/\d+\/p2p/),
    ws: over(/\/ws\/p2p/),
    webrtc: over(/\/webrtc-direct\//),
    kill() {
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    },
    async stop() {
      child.kill("SIGTERM");
      assert.equal(await ended, 0, "a peer that is asked to leave does so");
      rmSync(folder, { recursive: true });
    },
  };
}

/** Waits for what takes a moment on the other side. */
export async function until(what, so) {
  const began = Date.now();
  for (;;) {
    const value = await so();
    if (value) return value;
    assert.ok(Date.now() - began < 20_000, `${what}: not after 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
