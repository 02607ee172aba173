/** Helia, IPFS in JavaScript, on this machine alone; and `kwaainet` beside it with a model that is no real one. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import workers from "node:worker_threads";
import zlib from "node:zlib";
import { root } from "./server.mjs";

// Helia and js-libp2p need Node.js 22 for nothing but these. (The last two are looked at, and not used.)
globalThis.WebSocket ??= (await import("ws")).WebSocket;
Promise.withResolvers ??= function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
workers.markAsUncloneable ??= () => undefined;
zlib.createZstdDecompress ??= () => {
  throw new Error("this Node.js has no Zstandard");
};
const { createHeliaLight } = await import("helia");
const { withLibp2pLight } = await import("@helia/libp2p");
const { withBitswap } = await import("@helia/bitswap");
const { unixfs } = await import("@helia/unixfs");
const { fixedSize } = await import("ipfs-unixfs-importer/chunker");
const { balanced } = await import("ipfs-unixfs-importer/layout");
const { MemoryBlockstore } = await import("blockstore-core");
const { tcp } = await import("@libp2p/tcp");
const { noise } = await import("@chainsafe/libp2p-noise");
const { yamux } = await import("@chainsafe/libp2p-yamux");
const { identify, identifyPush } = await import("@libp2p/identify");

export const MIB = 1 << 20;
/** The importer's options that give the CID of a model: profile unixfs-v1-2025 of IPIP-499. */
const profile = {
  cidVersion: 1,
  rawLeaves: true,
  chunker: fixedSize({ chunkSize: MIB }),
  layout: balanced({ maxChildrenPerNode: 1024 }),
};

/**
 * A node of IPFS that knows nobody. (`createHelia()` would dial public peers: never in a test.)
 * Its `address` ends with its id; `add(bytes)` gives the CID of a file.
 */
export async function heliaNode() {
  const blocks = new MemoryBlockstore();
  const light = withLibp2pLight(createHeliaLight({ blockstore: blocks }), {
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), push: identifyPush() },
  });
  const helia = await withBitswap(light).start();
  const files = unixfs(helia);
  return {
    helia,
    files,
    blocks,
    address: helia.libp2p.getMultiaddrs()[0].toString(),
    add: (bytes) => files.addBytes(bytes, profile),
    stop: () => helia.stop(),
  };
}

/** A file that passes for a model: the header of one, and numbers after it, no two chunks of which are the same. */
export function modelBytes(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(Math.imul(at, 0x9e3779b1) >>> 0, at);
  readFileSync(join(root, "tests/fuzz/corpus/gguf/llama")).copy(bytes);
  return bytes;
}

/**
 * A folder with a signed catalogue of one model, and a server that gives the model while `origin.serves`. Everything goes
 * with `remove`.
 */
export async function deployment(program, bytes) {
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-bitswap-"));
  const server = createServer((request, response) => {
    if (!origin.serves) return response.writeHead(503).end();
    const [, from, to] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "") ?? [];
    const part = bytes.subarray(Number(from ?? 0), to ? Number(to) + 1 : bytes.length);
    response.writeHead(from === undefined ? 200 : 206, {
      "content-length": part.length,
      "content-range": `bytes ${from ?? 0}-${Number(from ?? 0) + part.length - 1}/${bytes.length}`,
    });
    return response.end(part);
  });
  const origin = { serves: false };
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const source = `http://127.0.0.1:${server.address().port}/model.gguf`;
  const path = (name) => join(folder, name);
  const must = (...args) => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`kwaainet ${args.join(" ")}: ${stderr}`);
    return stdout;
  };
  writeFileSync(path("model.gguf"), bytes);
  const about = ["--id", "m", "--licence", "MIT", "--source", source];
  const entry = must("model", "manifest", path("model.gguf"), ...about);
  writeFileSync(path("entry.json"), entry);
  must("catalogue", "keygen", "--out", path("secret"));
  must("catalogue", "sign", "--key", path("secret"), "--out", path("models.json"), path("entry.json"));
  return {
    entry: JSON.parse(entry),
    catalogue: ["--catalogue", path("models.json")],
    origin,
    home: (name) => path(name),
    remove() {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Runs `kwaainet` to its end, with what it keeps in a folder: what it said as JSON, and the seconds it took. */
export function run(program, home, args) {
  const began = performance.now();
  const env = { ...process.env, KWAAINET_DATA_DIR: home, XDG_CONFIG_HOME: "/nonexistent" };
  const child = spawn(program, [...args, "--json"], { env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  let complained = "";
  child.stdout.on("data", (data) => {
    said += data;
  });
  child.stderr.on("data", (data) => {
    complained += data;
  });
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => {
      if (code !== 0)
        return reject(new Error(`kwaainet ${args.join(" ")} ended with ${code}: ${complained}`));
      return resolve({ ...JSON.parse(said), seconds: (performance.now() - began) / 1000 });
    });
  });
}

/** Starts `kwaainet peer`, which lends what is in the folder. */
export async function lender(program, home, catalogue) {
  const env = { ...process.env, KWAAINET_DATA_DIR: home, XDG_CONFIG_HOME: "/nonexistent" };
  const listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--control", "0"];
  const child = spawn(program, ["peer", "--json", ...listen, ...catalogue], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const line = await Promise.race([
    new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve)),
    ended.then((code) => Promise.reject(new Error(`kwaainet peer ended with ${code}`))),
  ]);
  return {
    ...JSON.parse(line),
    stop() {
      child.kill("SIGTERM");
      return ended;
    },
  };
}
