/**
 * A browser and `kwaainet peer` over WebSocket and over WebRTC: this network and js-libp2p, in turns, with the same peer.
 *
 * Ours is timed by the page, in whose thread the node's half is, as the node's worker has it in life; js-libp2p is timed
 * where it runs, so that it crosses no port: in a worker of its own, and for WebRTC in the page.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { headerRules, headersFor } from "../../../cdn/headers.mjs";
import { rendererMemory, startChromium } from "../../e2e/support/browser.mjs";
import { closeSites, theSites } from "../../e2e/support/world.mjs";
import { ourPeer } from "../../interop/our-peer.mjs";

const root = join(import.meta.dirname, "../../..");
/** Bytes, and how often. */
const ECHOES = [
  [64, 40],
  [8192, 40],
  [1_000_000, 10],
];
const THROUGH = [1_000_000, 32];
const CONNECTS = 10;
/** What a connection does at first is not what it does. */
const WARM = [8192, 10];

/** What a page has: `join` starts a worker and waits for a connection, `connect` makes another, and `network` is asked. */
async function inPage({ networks, webrtc }) {
  const { servePeerConnections } = await import(webrtc);
  const glue = await import("/bench/kwaainet.js");
  await glue.default({ module_or_path: "/bench/kwaainet_bg.wasm" });
  const ours = async ({ worker, wasm }, known) => {
    const { port1, port2 } = new MessageChannel();
    const network = new Worker(worker);
    const seed = crypto.getRandomValues(new Uint8Array(32));
    const windows = new MessageChannel();
    servePeerConnections(windows.port1);
    const start = { wasm: new URL(wasm, location.href).href, seed, known };
    network.postMessage(start, [port2, windows.port2]);
    const node = await glue.connect(port1);
    return {
      ask: async (what, ...args) => {
        const told = await node[what](...args);
        return typeof told === "object" ? [...told] : told;
      },
      hangUp: async (at) => {
        node.disconnect(at);
        while (node.peers().length > 0) await new Promise((done) => setTimeout(done, 5));
      },
      end: () => network.terminate(),
    };
  };
  const theirs = async () => {
    const network = new Worker("/bench/js-worker.js");
    const waiting = new Map();
    let last = 0;
    network.onmessage = ({ data: [id, told, error] }) => {
      const { resolve, reject } = waiting.get(id);
      if (error) reject(new Error(error));
      else resolve(told);
    };
    const ask = (...args) =>
      new Promise((resolve, reject) => {
        last += 1;
        waiting.set(last, { resolve, reject });
        network.postMessage([last, ...args]);
      });
    return {
      ask,
      hangUp: (at) => ask("hangUp", at),
      end: () => network.terminate(),
    };
  };
  const theirsHere = async () => {
    await new Promise((loaded, failed) => {
      const script = document.createElement("script");
      Object.assign(script, { src: "/bench/js-page.js", onload: loaded, onerror: failed });
      document.head.append(script);
    });
    const node = window.jsNode();
    const ask = (what, ...args) => node[what](...args);
    return { ask, hangUp: (at) => ask("hangUp", at), end() {} };
  };
  window.join = async (which, at) => {
    const begun = performance.now();
    const files = networks[which];
    // Ours calls whom it is told of when it begins, and nobody else.
    if (files) window.network = await ours(files, [at]);
    else window.network = await (at.includes("/webrtc-direct/") ? theirsHere() : theirs());
    await window.network.ask("dial", at);
    return performance.now() - begun;
  };
  window.connect = async (at) => {
    await window.network.hangUp(at);
    return window.network.ask("dial", at);
  };
}

/** The files of a network: what `npm run build` has made, or such a pair in a folder. */
const filesIn = (folder) => {
  const name = (pattern) => readdirSync(folder).find((one) => pattern.test(one));
  return { worker: name(/^network-.*\.js$/), wasm: name(/^kwaainet-network-.*\.wasm$/) };
};

/**
 * @param {{rounds: number, log: (line: string) => void, beside?: Record<string, string>}} options `beside`: other networks of
 * ours, for example that of another commit: folders with its two files
 * @returns for each transport and network, what was measured in each round
 */
export async function benchWire({ rounds, log, beside = {} }) {
  const sites = await theSites();
  const { "Content-Security-Policy": _, ...headers } = headersFor(headerRules({ csp: "" }), "/");
  const serve = (path, body, type) =>
    sites.page(path, body, { host: "cdn.localhost", headers: { ...headers, "content-type": type } });
  const suites = join(root, "sdk-wasm/pkg/suites");
  serve("/bench/kwaainet.js", readFileSync(join(suites, "kwaainet.js")), "text/javascript");
  serve("/bench/kwaainet_bg.wasm", readFileSync(join(suites, "kwaainet_bg.wasm")), "application/wasm");
  for (const name of ["js-worker", "js-page"]) {
    const bundled = await build({
      entryPoints: [join(import.meta.dirname, `${name}.mjs`)],
      bundle: true,
      write: false,
      minify: true,
      format: "iife",
      target: "es2022",
    });
    serve(`/bench/${name}.js`, bundled.outputFiles[0].text, "text/javascript");
  }
  const networks = {};
  for (const [name, folder] of Object.entries({ KwaaiNet: join(root, "cdn/dist/assets"), ...beside })) {
    const files = filesIn(folder);
    const path = (file) => `/bench/${encodeURIComponent(name)}/${file}`;
    serve(path(files.worker), readFileSync(join(folder, files.worker)), "text/javascript");
    serve(path(files.wasm), readFileSync(join(folder, files.wasm)), "application/wasm");
    networks[name] = { worker: path(files.worker), wasm: path(files.wasm) };
  }
  const dist = join(root, "cdn/dist/assets");
  const webrtc = `/bench/${readdirSync(dist).find((one) => /^webrtc-.*\.js$/.test(one))}`;
  serve(webrtc, readFileSync(join(dist, webrtc.slice("/bench/".length))), "text/javascript");
  const empty = serve("/bench/", "<!doctype html><title>network</title>", "text/html");
  const listen = ["/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/webrtc-direct"];
  const peer = await ourPeer(...listen.flatMap((address) => ["--listen", address]));
  const profile = mkdtempSync(join(tmpdir(), "kwaainet-wire-"));
  const chromium = await startChromium({ profile });
  const results = { ws: {}, webrtc: {} };
  const turns = [
    ...[...Object.keys(networks), "js-libp2p"].map((which) => ["ws", which]),
    ["webrtc", "KwaaiNet"],
    ["webrtc", "js-libp2p"],
  ];
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const [over, which] of turns) {
        const page = await chromium.context.newPage();
        try {
          await page.goto(empty);
          await page.evaluate(inPage, { networks, webrtc });
          const measured = await measure(page, which, peer[over], () => rendererMemory(chromium.pid));
          log(`  ${over} ${which}: ${JSON.stringify(measured)}`);
          results[over][which] ??= [];
          results[over][which].push(measured);
        } finally {
          await page.close();
        }
      }
    }
  } finally {
    await chromium.close();
    rmSync(profile, { recursive: true, force: true });
    await peer.stop();
    await closeSites();
  }
  return results;
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

async function measure(page, which, address, memory) {
  const before = await settled(memory);
  const joinedMs = await page.evaluate(([name, at]) => window.join(name, at), [which, address]);
  const measured = { joinedMs, memory: (await settled(memory)) - before };
  const connects = [];
  for (let time = 0; time < CONNECTS; time += 1) {
    connects.push(await page.evaluate((at) => window.connect(at), address));
  }
  measured.connectMs = median(connects);
  const ask = (...args) => page.evaluate((all) => window.network.ask(...all), args);
  await ask("echo", address, ...WARM);
  for (const [bytes, times] of ECHOES) {
    measured[`echo${bytes}`] = median(await ask("echo", address, bytes, times));
  }
  const [bytes, times] = THROUGH;
  // Megabytes a second, in each of both directions at once.
  measured.through = (bytes * times) / 1000 / (await ask("through", address, bytes, times));
  await page.evaluate(() => window.network.end());
  return measured;
}

/** A page that has just begun still compiles and collects. */
async function settled(memory) {
  await sleep(1500);
  return memory();
}
