/**
 * SHA-256 of a text, in hexadecimal digits. `crypto.subtle` is missing on pages that came over plain http, where
 * the panel must still be able to prove its words, so FIPS 180-4, section 6.2, is written out for that case.
 */
export async function sha256(text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  const { subtle } = crypto as { subtle?: SubtleCrypto };
  const digest = subtle === undefined ? plainSha256(bytes) : await subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function plainSha256(message: Uint8Array): ArrayBuffer {
  const blocks = Math.ceil((message.length + 9) / 64);
  const padded = new Uint8Array(blocks * 64);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(message.length) * 8n);
  const round = fractions(64, 1 / 3);
  const state = fractions(8, 1 / 2);
  const w = new Uint32Array(64);
  for (let start = 0; start < padded.length; start += 64) {
    for (let i = 0; i < 64; i += 1) {
      w[i] = i < 16 ? view.getUint32(start + 4 * i) : extend(w, i);
    }
    compress(state, w, round);
  }
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => {
    out.setUint32(4 * i, word);
  });
  return out.buffer;
}

function extend(w: Uint32Array, i: number): number {
  const early = at(w, i - 15);
  const late = at(w, i - 2);
  const s0 = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
  const s1 = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
  return at(w, i - 16) + s0 + at(w, i - 7) + s1;
}

function compress(state: Uint32Array, w: Uint32Array, round: Uint32Array): void {
  const v = state.slice();
  for (let i = 0; i < 64; i += 1) {
    const e = at(v, 4);
    const a = at(v, 0);
    const choose = (e & at(v, 5)) ^ (~e & at(v, 6));
    const sum1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const t1 = at(v, 7) + sum1 + choose + at(round, i) + at(w, i);
    const majority = (a & at(v, 1)) ^ (a & at(v, 2)) ^ (at(v, 1) & at(v, 2));
    const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority;
    v.copyWithin(1, 0, 7);
    v[4] = at(v, 4) + t1;
    v[0] = t1 + t2;
  }
  v.forEach((word, i) => {
    state[i] = at(state, i) + word;
  });
}

/** First 32 fractional bits of a root of the first primes (FIPS 180-4, 4.2.2 and 5.3.3). */
function fractions(count: number, power: number): Uint32Array {
  const out = new Uint32Array(count);
  let found = 0;
  for (let n = 2; found < count; n += 1) {
    if (isPrime(n)) {
      out[found] = (n ** power % 1) * 2 ** 32;
      found += 1;
    }
  }
  return out;
}

function isPrime(n: number): boolean {
  for (let i = 2; i * i <= n; i += 1) {
    if (n % i === 0) {
      return false;
    }
  }
  return true;
}

function turn(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

function at(words: Uint32Array, index: number): number {
  return words[index] ?? 0;
}
