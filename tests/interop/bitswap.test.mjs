/**
 * Helia and `kwaainet`, over `/ipfs/bitswap/1.2.0`: a model that Helia has comes from it, each leaf verified; Helia
 * fetches it from a peer of ours; a leaf that we lack is answered with DONT_HAVE; a node with wrong bytes is refused.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { deployment, heliaNode, lender, MIB, modelBytes, run } from "./helia.mjs";

const { multiaddr } = await import("@multiformats/multiaddr");
const { peerIdFromString } = await import("@libp2p/peer-id");
const { CID } = await import("multiformats/cid");
const raw = await import("multiformats/codecs/raw");
const { sha256 } = await import("multiformats/hashes/sha2");

const program = process.env.KWAAINET_BIN;
if (!program) throw new Error("KWAAINET_BIN says which `kwaainet` is tested: npm test -- --only interop");

/** Eight whole leaves, and one so small that it may come instead of word that it is there. */
const model = modelBytes(8 * MIB + 500);
const leaf = async (bytes) => CID.createV1(raw.code, await sha256.digest(bytes));
const signal = AbortSignal.timeout(120_000);

async function contents(parts) {
  const all = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

/** Connects, once our peer lends: Helia asks those of whom it has heard that they speak bitswap. */
async function acquaint(libp2p, { peer, addresses }) {
  for (;;) {
    await libp2p.dial(multiaddr(addresses[0]), { signal });
    const { protocols } = await libp2p.peerStore.get(peerIdFromString(peer), { signal });
    if (protocols.includes("/ipfs/bitswap/1.2.0")) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
    await libp2p.hangUp(peerIdFromString(peer), { signal });
  }
}

describe("Helia", { timeout: 150_000 }, () => {
  let site;
  let has;
  let cid;
  const nodes = [];
  const node = async () => {
    const made = await heliaNode();
    nodes.push(made);
    return made;
  };
  const pull = (home, from) => {
    const peers = from.flatMap((one) => ["--bootstrap", one.address]);
    return run(program, home, ["model", "pull", "m", ...site.catalogue, ...peers]);
  };
  const pulled = (home) => readFileSync(join(home, "models/m.gguf"));

  before(async () => {
    site = await deployment(program, model);
    has = await node();
    cid = await has.add(model);
  });
  after(async () => {
    for (const one of nodes) await one.stop();
    site?.remove();
  });

  test("gives a model the CID that our catalogue has", () => {
    assert.equal(cid.toString(), site.entry.cid);
    assert.equal(site.entry.chunkHashes.length, 9);
  });

  test("is where `kwaainet model pull` gets every leaf", async () => {
    const home = site.home("ours");
    const { from_peers: bytes, peers } = await pull(home, [has]);
    assert.deepEqual([bytes, peers], [model.length, 1]);
    assert.equal(Buffer.compare(pulled(home), model), 0);
  });

  test("with wrong bytes is refused, and another that is right is not", async () => {
    const lies = await node();
    await lies.add(model);
    for (let at = 0; at < model.length; at += MIB) {
      const wrong = Buffer.from(model.subarray(at, at + MIB));
      wrong[wrong.length - 1] ^= 1;
      await lies.blocks.put(await leaf(model.subarray(at, at + MIB)), wrong);
    }
    const home = site.home("doubtful");
    const { from_peers: bytes, peers } = await pull(home, [lies, has]);
    assert.deepEqual([bytes, peers], [model.length, 1]);
    assert.equal(Buffer.compare(pulled(home), model), 0);

    const alone = site.home("deceived");
    site.origin.serves = true;
    const { from_peers: none } = await pull(alone, [lies]);
    assert.equal(none, 0);
    assert.equal(Buffer.compare(pulled(alone), model), 0, "the server gave what the liar did not");
  });

  test("fetches the model from a peer of ours, and hears what that lacks", async () => {
    const ours = await lender(program, site.home("ours"), site.catalogue);
    try {
      const fetches = await node();
      // The leaves are ours to give; the root of the tree over them is not.
      await fetches.blocks.put(cid, await contents(has.blocks.get(cid)));
      await acquaint(fetches.helia.libp2p, ours);
      const got = await contents(fetches.files.cat(cid, { signal }));
      assert.equal(Buffer.compare(got, model), 0);

      const { wantList } = fetches.helia.blockBrokers.find((broker) => broker.name === "bitswap").bitswap;
      const peer = peerIdFromString(ours.peer);
      const asked = async (bytes) => wantList.wantSessionPresence(await leaf(bytes), peer, { signal });
      assert.equal((await asked(model.subarray(0, MIB))).has, true);
      assert.equal((await asked(Buffer.from("nobody has this"))).has, false);
      const block = await wantList.wantSessionBlock(await leaf(Buffer.from("nor this")), peer, { signal });
      assert.equal(block.has, false);
    } finally {
      assert.equal(await ours.stop(), 0);
    }
  });
});
