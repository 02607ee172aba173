/**
 * Signed envelopes and peer records (libp2p RFC 0002 and 0003), sealed by js-libp2p's own packages and opened by ours,
 * and the reverse. `sdk-core/network/examples/envelope.rs` is the other side.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { PeerRecord, RecordEnvelope } from "@libp2p/peer-record";
import { multiaddr } from "@multiformats/multiaddr";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const seed = (number) => new Uint8Array(32).fill(number);
const addresses = [
  "/ip4/192.0.2.7/udp/4001/quic-v1",
  "/ip6/2001:db8::1/tcp/443",
  "/dns4/relay.example/tcp/443/tls/ws",
].map((text) => multiaddr(text));

/** Asks our side, one line each. */
function ours(lines) {
  const args = ["run", "--quiet", "--locked", "-p", "kwaainet-network", "--example", "envelope"];
  const { status, stdout, stderr, error } = spawnSync("cargo", args, {
    cwd: root,
    input: lines.join("\n"),
    encoding: "utf8",
  });
  assert.equal(status, 0, `cargo ${args.join(" ")}: ${error?.message ?? stderr}`);
  const answers = stdout.trim().split("\n");
  assert.equal(answers.length, lines.length);
  return answers;
}

describe("signed envelopes", { timeout: 600_000 }, () => {
  let key;
  let peer;
  let sealed;

  before(async () => {
    key = await generateKeyPairFromSeed("Ed25519", seed(7));
    peer = peerIdFromPrivateKey(key);
    const record = new PeerRecord({ peerId: peer, multiaddrs: addresses, seqNumber: 2n ** 63n + 5n });
    sealed = (await RecordEnvelope.seal(record, key)).marshal();
  });

  test("what js-libp2p sealed opens here, and nothing that was changed", async () => {
    const forged = new PeerRecord({
      peerId: peerIdFromPrivateKey(await generateKeyPairFromSeed("Ed25519", seed(8))),
      multiaddrs: addresses,
      seqNumber: 1n,
    });
    const ofAnother = (await RecordEnvelope.seal(forged, key)).marshal();
    const changed = sealed.map((byte, at) => (at === sealed.length - 70 ? byte ^ 1 : byte));
    const answers = ours([sealed, ofAnother, changed].map((envelope) => `open ${hex(envelope)}`));
    const wire = addresses.map((address) => hex(address.bytes));
    assert.equal(answers[0], `${peer} 9223372036854775813 ${wire.join(" ")}`);
    assert.match(answers[1], /^error: the record says that it is of 12D3KooW\w+, and is signed by 12D3KooW/);
    assert.match(answers[2], /^error: the signature is not that of 12D3KooW/);
  });

  test("what is sealed here opens there, and is the same to the byte", async () => {
    const wire = addresses.map((address) => hex(address.bytes)).join(" ");
    const [answer] = ours([`seal ${hex(seed(7))} 9223372036854775813 ${wire}`]);
    assert.equal(answer, hex(sealed));
    const envelope = await RecordEnvelope.openAndCertify(Buffer.from(answer, "hex"), PeerRecord.DOMAIN);
    assert.ok(envelope.publicKey.equals(key.publicKey));
    const record = PeerRecord.createFromProtobuf(envelope.payload);
    assert.ok(record.peerId.equals(peer));
    assert.deepEqual(record.multiaddrs.map(String), addresses.map(String));
    const last = answer.length - 1;
    const damaged = answer.slice(0, last) + (answer[last] === "0" ? "1" : "0");
    await assert.rejects(RecordEnvelope.openAndCertify(Buffer.from(damaged, "hex"), PeerRecord.DOMAIN));
  });

  test("our own records are envelopes that js-libp2p can make and check", async () => {
    const [answer] = ours([`sign ${hex(seed(7))} 9 1700000000000 626f6479`]);
    const envelope = await RecordEnvelope.openAndCertify(Buffer.from(answer, "hex"), "kwaainet-record");
    assert.equal(Buffer.from(envelope.payloadType).toString(), "/kwaainet/record/1");
    // sequence 9, expires 1700000000000, body "body"
    const payload = Buffer.from("08091080d095ffbc311a04626f6479", "hex");
    assert.equal(hex(envelope.payload), hex(payload));
    await assert.rejects(RecordEnvelope.openAndCertify(Buffer.from(answer, "hex"), PeerRecord.DOMAIN));

    const made = { domain: "kwaainet-record", codec: envelope.payloadType, marshal: () => payload };
    const foreign = (await RecordEnvelope.seal(made, key)).marshal();
    const elsewhere = (await RecordEnvelope.seal({ ...made, domain: "another" }, key)).marshal();
    const answers = ours([
      `check ${hex(foreign)} 1699999999999`,
      `check ${hex(foreign)} 1700000000000`,
      `check ${hex(elsewhere)} 1699999999999`,
      `check ${hex(sealed)} 1699999999999`,
    ]);
    assert.equal(answers[0], `${peer} 9 1700000000000 626f6479`);
    assert.match(answers[1], /^error: the record of 12D3KooW\w+ expired/);
    assert.match(answers[2], /^error: the signature is not that of/);
    assert.match(answers[3], /^error: this is an envelope for something else/);
  });
});
