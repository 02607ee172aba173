// Just enough GGUF to make a file without tensors out of a model: its keys, some of them changed.

const SIZES = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.pos = 0;
  }
  u32() {
    this.pos += 4;
    return this.bytes.readUInt32LE(this.pos - 4);
  }
  u64() {
    this.pos += 8;
    return Number(this.bytes.readBigUInt64LE(this.pos - 8));
  }
  text() {
    const length = this.u64();
    this.pos += length;
    return this.bytes.toString("utf8", this.pos - length, this.pos);
  }
  skip(kind) {
    if (kind === 8) this.text();
    else if (kind === 9) {
      const inner = this.u32();
      const count = this.u64();
      if (inner === 8) for (let i = 0; i < count; i += 1) this.text();
      else this.pos += count * SIZES[inner];
    } else this.pos += SIZES[kind];
  }
}

const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value) => {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([u64(bytes.length), bytes]);
};

/** The header of a file without tensors: the keys of `bytes`, with some texts replaced. */
export function vocabularyOf(bytes, replaced) {
  const reader = new Reader(bytes);
  reader.pos = 4;
  const version = reader.u32();
  reader.u64();
  const count = reader.u64();
  const pairs = [];
  for (let i = 0; i < count; i += 1) {
    const start = reader.pos;
    const key = reader.text();
    const kind = reader.u32();
    reader.skip(kind);
    pairs.push(
      key in replaced
        ? Buffer.concat([text(key), u32(8), text(replaced[key])])
        : Buffer.from(bytes.subarray(start, reader.pos)),
    );
  }
  const head = Buffer.concat([Buffer.from("GGUF"), u32(version), u64(0), u64(count), ...pairs]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]);
}

const f32s = (values) => Buffer.from(Float32Array.from(values).buffer);
const i32s = (values) => Buffer.from(Int32Array.from(values).buffer);
const array = (kind, count, bytes) => Buffer.concat([u32(9), u32(kind), u64(count), bytes]);

/** A file without tensors from scratch. Values: strings, booleans, `{ u32 }`, `{ f32 }`, `{ texts }`, `{ f32s }`, `{ i32s }`. */
export function writeKeys(keys) {
  const pairs = Object.entries(keys).map(([key, value]) => {
    let bytes;
    if (typeof value === "string") bytes = Buffer.concat([u32(8), text(value)]);
    else if (typeof value === "boolean") bytes = Buffer.concat([u32(7), Buffer.from([value ? 1 : 0])]);
    else if ("u32" in value) bytes = Buffer.concat([u32(4), u32(value.u32)]);
    else if ("f32" in value) bytes = Buffer.concat([u32(6), f32s([value.f32])]);
    else if ("texts" in value) bytes = array(8, value.texts.length, Buffer.concat(value.texts.map(text)));
    else if ("f32s" in value) bytes = array(6, value.f32s.length, f32s(value.f32s));
    else bytes = array(5, value.i32s.length, i32s(value.i32s));
    return Buffer.concat([text(key), bytes]);
  });
  const head = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(0), u64(pairs.length), ...pairs]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]);
}
