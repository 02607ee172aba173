/**
 * How fast a model goes over bitswap on this machine, in one run: Helia to Helia, Helia to `kwaainet model pull`,
 * `kwaainet peer` to Helia, and beside them `kwaainet` to `kwaainet` by our own protocol. Every node is a process.
 *
 *   KWAAINET_BIN=target/release/kwaainet node tests/bench/bitswap.mjs [MiB] [rounds]
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { multiaddr } from "@multiformats/multiaddr";
import { CID } from "multiformats/cid";
import { deployment, heliaNode, lender, MIB, modelBytes, run } from "../interop/helia.mjs";

const length = Number(process.argv[2] ?? 64) * MIB;

if (process.send) {
  // The node that has it.
  const node = await heliaNode();
  const cid = await node.add(modelBytes(length));
  process.send({ address: node.address, cid: cid.toString() });
  process.once("disconnect", () => process.exit(0));
} else {
  const rounds = Number(process.argv[3] ?? 3);
  const program = process.env.KWAAINET_BIN;
  if (!program) throw new Error("KWAAINET_BIN says which `kwaainet` is measured");
  const has = fork(fileURLToPath(import.meta.url), process.argv.slice(2));
  const [{ address, cid }] = await once(has, "message");
  const site = await deployment(program, modelBytes(length));
  const pull = async (home, from) => {
    const { from_peers: bytes, seconds } = await run(program, home, [
      ...["model", "pull", "m", ...site.catalogue, "--bootstrap", from],
    ]);
    if (bytes !== length) throw new Error(`only ${bytes} bytes came from the peer`);
    return seconds;
  };
  const cat = async (from) => {
    const node = await heliaNode();
    // Whoever fetches from ours brings the root, which is not among the leaves that it gives.
    await node.helia.libp2p.dial(multiaddr(address));
    await node.blocks.put(CID.parse(cid), await whole(node.helia.blockstore.get(CID.parse(cid))));
    if (from !== address) {
      await node.helia.libp2p.hangUp(multiaddr(address));
      await node.helia.libp2p.dial(multiaddr(from));
    }
    const began = performance.now();
    let bytes = 0;
    for await (const part of node.files.cat(CID.parse(cid))) bytes += part.length;
    const seconds = (performance.now() - began) / 1000;
    await node.stop();
    if (bytes !== length) throw new Error(`only ${bytes} bytes came`);
    return seconds;
  };
  const whole = async (parts) => {
    const all = [];
    for await (const part of parts) all.push(part);
    return Buffer.concat(all);
  };

  const seconds = { "Helia to Helia": [], "Helia to ours": [], "ours to Helia": [], "ours to ours": [] };
  await pull(site.home("lent"), address);
  const ours = await lender(program, site.home("lent"), site.catalogue);
  for (let round = 0; round < rounds; round += 1) {
    seconds["Helia to Helia"].push(await cat(address));
    seconds["Helia to ours"].push(await pull(site.home("fetched"), address));
    rmSync(site.home("fetched"), { recursive: true });
    seconds["ours to Helia"].push(await cat(ours.addresses[0]));
    seconds["ours to ours"].push(await pull(site.home("fetched"), ours.addresses[0]));
    rmSync(site.home("fetched"), { recursive: true });
  }
  await ours.stop();
  has.disconnect();
  site.remove();
  for (const [who, took] of Object.entries(seconds)) {
    const rates = took.map((one) => length / 1e6 / one).sort((a, b) => a - b);
    const median = rates[Math.floor(rates.length / 2)];
    console.log(`${who}: ${median.toFixed(1)} MB/s (${rates.map((rate) => rate.toFixed(1)).join(", ")})`);
  }
}
