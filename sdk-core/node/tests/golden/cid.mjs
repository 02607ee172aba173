// Regenerates cid.json: `npm i --no-save ipfs-unixfs-importer@17 && node cid.mjs > cid.json`
import { importFile } from "ipfs-unixfs-importer";

const MIB = 1 << 20;
// Addresses only: the blocks are not kept.
const store = { put: async (cid) => cid };
const sizes = [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3, 174 * MIB, 175 * MIB + 1];
// Not from 2^31 bytes on: this version writes zeros for the file's size there, which no reader takes.
sizes.push(1024 * MIB, 1025 * MIB, 1026 * MIB + 5);

async function* content(bytes) {
  for (let chunk = 0, left = bytes; left > 0; chunk++) {
    const piece = new Uint8Array(Math.min(left, MIB));
    for (let i = 0; i < piece.length; i++) piece[i] = (chunk % 8) * 31 + i * 7 + (i >> 8);
    yield piece;
    left -= piece.length;
  }
}

const files = [];
for (const bytes of sizes) {
  const { cid } = await importFile({ content: content(bytes) }, store, { profile: "unixfs-v1-2025" });
  files.push({ bytes, cid: cid.toString() });
}
console.log(
  JSON.stringify(
    {
      made_with: "npm ipfs-unixfs-importer 17.1.1, profile unixfs-v1-2025 (cid.mjs beside this file)",
      content: "byte i of chunk c is (c%8*31 + i*7 + (i>>8)) mod 256",
      files,
    },
    null,
    2,
  ),
);
