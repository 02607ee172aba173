/** What this engine is to reach. The document says of each whether it does. */

/** Rivals that are one: a ratio is to the better of them. */
export const groups = {
  browser: { wllama: /^wllama/, candle: /^candle/ },
  native: { "llama.cpp": /^llama\.cpp/, Python: /^transformers/ },
};

/** So many times as fast as a group of rivals. */
const ratios = {
  browser: {
    wllama: ({ processors }) => (processors === 1 ? { prefill: 8, decode: 6 } : { prefill: 7, decode: 5 }),
    candle: () => ({ prefill: 4, decode: 3 }),
  },
  native: {
    "llama.cpp": () => ({ prefill: 1.1, decode: 1.05 }),
    Python: () => ({ prefill: 3, decode: 3 }),
  },
};

export function ratioGoal(where, group, key, one) {
  return ratios[where][group](one)[key.replace(/\d+$/, "")];
}

/** No more than so much, in what the table shows. */
export function limit(where, key, { model }) {
  if (where !== "browser") return undefined;
  const isGemma = model.id.startsWith("gemma");
  if (key === "loadMs") return isGemma ? 2000 : 600;
  return isGemma && /memory/i.test(key) ? 450 : undefined;
}

/** Of the bandwidth that was measured, at the better number of threads; in percent. */
export const SHARE = 80;
/** The engine alone as wasm; in kB of brotli. */
export const ENGINE_KB = 250;

export const verdict = (met) => (met ? "met" : "**missed**");
