// A model file in other formats: as 32-bit floats, so that two engines can be compared without the rounding of
// activations that comes with quantised weights, or as Q4_0 and Q8_0, so that there is a real file of each. Written from the
// block layouts in ggml-common.h and the reference quantisers in ggml-quants.c, independent of the engine under test.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { Reader } from "./gguf.mjs";

const half = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? Number.POSITIVE_INFINITY
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  half[bits] = bits & 0x8000 ? -size : size;
}
const f16 = (bytes, at) => half[bytes[at] | (bytes[at + 1] << 8)];
const i8 = (byte) => (byte << 24) >> 24;

/** Scale and minimum of group `j` of Q4_K and Q5_K: 6 bits each, packed into 12 bytes. */
function scaleAndMinimum(bytes, at, j) {
  if (j < 4) return [bytes[at + j] & 63, bytes[at + j + 4] & 63];
  return [
    (bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >> 6) << 4),
    (bytes[at + j + 4] >> 4) | ((bytes[at + j] >> 6) << 4),
  ];
}

function q4(bytes, at, out, to, hasMinimum) {
  const d = f16(bytes, at);
  const m = hasMinimum ? f16(bytes, at + 2) : -8 * d;
  const quants = at + (hasMinimum ? 4 : 2);
  for (let i = 0; i < 16; i += 1) {
    out[to + i] = (bytes[quants + i] & 15) * d + m;
    out[to + i + 16] = (bytes[quants + i] >> 4) * d + m;
  }
}

function q5(bytes, at, out, to, hasMinimum) {
  const d = f16(bytes, at);
  const m = hasMinimum ? f16(bytes, at + 2) : -16 * d;
  const high = at + (hasMinimum ? 4 : 2);
  const bit = (i) => ((bytes[high + (i >> 3)] >> (i & 7)) & 1) << 4;
  for (let i = 0; i < 16; i += 1) {
    const byte = bytes[high + 4 + i];
    out[to + i] = ((byte & 15) | bit(i)) * d + m;
    out[to + i + 16] = ((byte >> 4) | bit(i + 16)) * d + m;
  }
}

function q45k(bytes, at, out, to, isQ5) {
  const d = f16(bytes, at);
  const minimum = f16(bytes, at + 2);
  const high = at + 16;
  const quants = at + (isQ5 ? 48 : 16);
  for (let j = 0; j < 8; j += 1) {
    const [scale, m] = scaleAndMinimum(bytes, at + 4, j);
    for (let i = 0; i < 32; i += 1) {
      const byte = bytes[quants + (j >> 1) * 32 + i];
      const low = j & 1 ? byte >> 4 : byte & 15;
      const fifth = isQ5 ? ((bytes[high + i] >> j) & 1) << 4 : 0;
      out[to + 32 * j + i] = d * scale * (low | fifth) - minimum * m;
    }
  }
}

function q2k(bytes, at, out, to) {
  const d = f16(bytes, at + 80);
  const minimum = f16(bytes, at + 82);
  for (let i = 0; i < 256; i += 1) {
    const scale = bytes[at + (i >> 4)];
    const byte = bytes[at + 16 + (i >> 7) * 32 + (i & 31)];
    out[to + i] = d * (scale & 15) * ((byte >> (2 * ((i >> 5) & 3))) & 3) - minimum * (scale >> 4);
  }
}

function q3k(bytes, at, out, to) {
  const d = f16(bytes, at + 108);
  const scales = at + 96;
  for (let i = 0; i < 256; i += 1) {
    const group = i >> 4;
    const low = group < 8 ? bytes[scales + group] & 15 : bytes[scales + group - 8] >> 4;
    const scale = (low | (((bytes[scales + 8 + (group & 3)] >> (2 * (group >> 2))) & 3) << 4)) - 32;
    const byte = bytes[at + 32 + (i >> 7) * 32 + (i & 31)];
    const third = (bytes[at + (i & 31)] >> (i >> 5)) & 1 ? 0 : 4;
    out[to + i] = d * scale * (((byte >> (2 * ((i >> 5) & 3))) & 3) - third);
  }
}

function q6k(bytes, at, out, to) {
  const d = f16(bytes, at + 208);
  for (let i = 0; i < 256; i += 1) {
    const part = i >> 7;
    const within = i & 127;
    const lane = within & 31;
    const quarter = within >> 5;
    const byte = bytes[at + 64 * part + lane + 32 * (quarter & 1)];
    const low = quarter < 2 ? byte & 15 : byte >> 4;
    const high = (bytes[at + 128 + 32 * part + lane] >> (2 * quarter)) & 3;
    out[to + i] = d * i8(bytes[at + 192 + (i >> 4)]) * ((low | (high << 4)) - 32);
  }
}

/** By ggml's id: numbers and bytes of a block, and how to read one. */
const FORMATS = {
  1: [
    1,
    2,
    (bytes, at, out, to) => {
      out[to] = f16(bytes, at);
    },
  ],
  2: [32, 18, (bytes, at, out, to) => q4(bytes, at, out, to, false)],
  3: [32, 20, (bytes, at, out, to) => q4(bytes, at, out, to, true)],
  6: [32, 22, (bytes, at, out, to) => q5(bytes, at, out, to, false)],
  7: [32, 24, (bytes, at, out, to) => q5(bytes, at, out, to, true)],
  8: [
    32,
    34,
    (bytes, at, out, to) => {
      for (let i = 0; i < 32; i += 1) out[to + i] = f16(bytes, at) * i8(bytes[at + 2 + i]);
    },
  ],
  10: [256, 84, q2k],
  11: [256, 110, q3k],
  12: [256, 144, (bytes, at, out, to) => q45k(bytes, at, out, to, false)],
  13: [256, 176, (bytes, at, out, to) => q45k(bytes, at, out, to, true)],
  14: [256, 210, q6k],
  30: [
    1,
    2,
    (bytes, at, out, to) => {
      out[to] = new Float32Array(Uint32Array.of((bytes[at] | (bytes[at + 1] << 8)) << 16).buffer)[0];
    },
  ],
};

function floats(bytes, at, kind, count) {
  const out = new Float32Array(count);
  if (kind === 0) Buffer.from(out.buffer).set(bytes.subarray(at, at + 4 * count));
  else {
    const [block, size, read] = FORMATS[kind];
    for (let i = 0; i < count / block; i += 1) read(bytes, at + i * size, out, i * block);
  }
  return out;
}

const scratch = new DataView(new ArrayBuffer(4));

/** The half nearest to a small number, as its bits. */
function f16Bits(value) {
  scratch.setFloat32(0, Math.abs(value));
  const bits = scratch.getUint32(0);
  const exponent = (bits >>> 23) - 112;
  const sign = value < 0 ? 0x8000 : 0;
  if (exponent <= 0) return sign | Math.round(Math.abs(value) * 2 ** 24);
  const whole = (exponent << 10) | ((bits >>> 13) & 1023);
  const rest = bits & 0x1fff;
  return sign | (rest > 0x1000 || (rest === 0x1000 && whole & 1) ? whole + 1 : whole);
}

/** `quantize_row_q4_0_ref`: the number of the largest magnitude becomes -8. */
function toQ4_0(x, from, out, at) {
  let largest = 0;
  for (let i = 0; i < 32; i += 1) if (Math.abs(x[from + i]) > Math.abs(largest)) largest = x[from + i];
  const inverse = largest === 0 ? 0 : -8 / largest;
  out.writeUInt16LE(f16Bits(largest / -8), at);
  const quant = (value) => Math.min(15, Math.trunc(value * inverse + 8.5));
  for (let i = 0; i < 16; i += 1) out[at + 2 + i] = quant(x[from + i]) | (quant(x[from + i + 16]) << 4);
}

/** `quantize_row_q8_0_ref`. */
function toQ8_0(x, from, out, at) {
  let largest = 0;
  for (let i = 0; i < 32; i += 1) largest = Math.max(largest, Math.abs(x[from + i]));
  const inverse = largest === 0 ? 0 : 127 / largest;
  out.writeUInt16LE(f16Bits(largest / 127), at);
  for (let i = 0; i < 32; i += 1) out.writeInt8(Math.round(x[from + i] * inverse), at + 2 + i);
}

/** The formats that can be written, by ggml's id. */
const WRITERS = { 2: toQ4_0, 8: toQ8_0 };
const [F32, Q4_0, Q4_1, Q8_0] = [0, 2, 3, 8];

/** What becomes of a tensor's format. */
export const targets = {
  F32: () => F32,
  /** As llama.cpp mixes it: what is kept in 8 bits stays so. */
  Q4_0: (kind) => (kind === Q4_1 ? Q4_0 : kind),
  Q8_0: (kind) => (kind === Q4_1 ? Q8_0 : kind),
};

const bytesOf = (kind, count) => {
  const [block, size] = FORMATS[kind] ?? [1, 4];
  return (count / block) * size;
};

function converted(bytes, at, kind, count, to) {
  if (kind === to) return bytes.subarray(at, at + bytesOf(kind, count));
  const x = floats(bytes, at, kind, count);
  if (to === F32) return Buffer.from(x.buffer);
  const [newBlock, newSize] = FORMATS[to];
  const out = Buffer.alloc((count / newBlock) * newSize);
  for (let i = 0; i < count / newBlock; i += 1) WRITERS[to](x, i * newBlock, out, i * newSize);
  return out;
}

const align = (position, alignment) => Math.ceil(position / alignment) * alignment;

/** What lies where in a model file. */
export function survey(bytes) {
  const reader = new Reader(bytes);
  reader.pos = 8;
  const tensorCount = reader.u64();
  const keyCount = reader.u64();
  for (let i = 0; i < keyCount; i += 1) {
    reader.text();
    reader.skip(reader.u32());
  }
  const keysEnd = reader.pos;
  const tensors = [];
  for (let i = 0; i < tensorCount; i += 1) {
    const start = reader.pos;
    reader.text();
    const shape = Array.from({ length: reader.u32() }, () => reader.u64());
    const head = bytes.subarray(start, reader.pos);
    const count = shape.reduce((product, size) => product * size, 1);
    tensors.push({ head, shape, count, kind: reader.u32(), offset: reader.u64() });
  }
  const dataAt = align(reader.pos, 32);
  for (const tensor of tensors) tensor.at = dataAt + tensor.offset;
  return { keys: bytes.subarray(0, keysEnd), tensors };
}

/** The header of that file with its tensors in these formats, where each tensor then begins, and where all end. */
export function layout({ keys, tensors }, kinds) {
  const table = [];
  const offsets = [];
  let end = 0;
  for (const [i, { head, count }] of tensors.entries()) {
    const tail = Buffer.alloc(12);
    tail.writeUInt32LE(kinds[i], 0);
    tail.writeBigUInt64LE(BigInt(end), 4);
    table.push(head, tail);
    offsets.push(end);
    end = align(end + bytesOf(kinds[i], count), 32);
  }
  const head = Buffer.concat([keys, ...table]);
  const dataAt = align(head.length, 32);
  return { head, places: offsets.map((offset) => dataAt + offset), end: dataAt + end };
}

/** Writes `to`: the model `from` with its tensors in other formats; with 32-bit floats only unless told otherwise. */
export function requantise(from, to, target = targets.F32) {
  const bytes = readFileSync(from);
  const model = survey(bytes);
  const kinds = model.tensors.map(({ kind }) => target(kind));
  const { head, places, end } = layout(model, kinds);
  const file = openSync(to, "w");
  try {
    writeSync(file, head, 0, head.length, 0);
    for (const [i, { at, count, kind }] of model.tensors.entries()) {
      const data = converted(bytes, at, kind, count, kinds[i]);
      for (let done = 0; done < data.length; )
        done += writeSync(file, data, done, Math.min(data.length - done, 1 << 26), places[i] + done);
    }
    ftruncateSync(file, end);
  } finally {
    closeSync(file);
  }
}
