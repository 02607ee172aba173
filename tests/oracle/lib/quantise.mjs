// A model of floats in another format, by the quantisers of sdk-core/testkit: so every format has a real file.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { layout, survey } from "./requantise.mjs";

/** ggml's ids. */
const IDS = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
};

/** What a matrix gets whose rows are no multiple of 256 (`tensor_type_fallback` in llama-quant.cpp). */
const FALLBACK = { Q2_K: "Q4_0", Q3_K: "Q4_0", Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "Q8_0" };

/** The formats that can be made. */
export const FORMATS = Object.keys(IDS);

/**
 * Writes `to`: the model `floats`, all of 32-bit floats, with every matrix in `format` or, where its rows do not fit, in what
 * llama.cpp takes instead. Returns the share of the matrices' numbers that are in `format`.
 */
export async function quantise(probe, floats, to, format) {
  const model = survey(readFileSync(floats));
  const formats = model.tensors.map(({ shape }) => {
    if (shape.length < 2) return "F32";
    return shape[0] % 256 === 0 ? format : (FALLBACK[format] ?? format);
  });
  const kinds = formats.map((name) => IDS[name]);
  const { head, places, end } = layout(model, kinds);
  const file = openSync(to, "w");
  try {
    writeSync(file, head, 0, head.length, 0);
    ftruncateSync(file, end);
  } finally {
    closeSync(file);
  }
  let [fit, all] = [0, 0];
  for (const [i, { at, count, shape }] of model.tensors.entries()) {
    await probe.ask({ op: "quantise", from: floats, at, count, format: formats[i], to, to_at: places[i] });
    if (shape.length < 2) continue;
    all += count;
    if (formats[i] === format) fit += count;
  }
  return fit / all;
}
