/**
 * A page with a node's half of the network, as the node's worker will have it, and what every peer must bear. Needs
 * `npm run build` and `node sdk-wasm/build.mjs --suites`.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { headerRules, headersFor } from "../../../cdn/headers.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1].toFixed(1);

/** Serves the page, and gives its address. */
export function networkedSite(sites) {
  const { "Content-Security-Policy": _, ...headers } = headersFor(headerRules({ csp: "" }), "/");
  const serve = (path, body, type) =>
    sites.page(path, body, { host: "cdn.localhost", headers: { ...headers, "content-type": type } });
  const file = (end) => readFileSync(join(root, "sdk-wasm/pkg/suites", end));
  serve("/pkg/suites/kwaainet.js", file("kwaainet.js"), "text/javascript");
  serve("/pkg/suites/kwaainet_bg.wasm", file("kwaainet_bg.wasm"), "application/wasm");
  return serve("/networked", "<!doctype html><title>network</title>", "text/html");
}

/** Makes `join` in the page, which starts a network's worker of its own. */
export async function prepare(page) {
  const assets = readdirSync(join(root, "cdn/dist/assets"));
  const asset = (pattern) => `/assets/${assets.find((name) => pattern.test(name))}`;
  await page.evaluate(
    async ([worker, wasm, webrtc]) => {
      const glue = await import("/pkg/suites/kwaainet.js");
      await glue.default({ module_or_path: "/pkg/suites/kwaainet_bg.wasm" });
      const { servePeerConnections } = await import(webrtc);
      window.join = async (...known) => {
        const { port1, port2 } = new MessageChannel();
        const network = new Worker(worker);
        const seed = crypto.getRandomValues(new Uint8Array(32));
        const windows = new MessageChannel();
        servePeerConnections(windows.port1);
        const start = { wasm: new URL(wasm, location.href).href, seed, known };
        network.postMessage(start, [port2, windows.port2]);
        return { network, node: await glue.connect(port1) };
      };
    },
    [/^network-.*\.js$/, /^kwaainet-network-.*\.wasm$/, /^webrtc-.*\.js$/].map(asset),
  );
}

/** Echoes of 64 B to 2 MB, 32 streams at once, and a second connection. */
export async function talk(page, address) {
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
