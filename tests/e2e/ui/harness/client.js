/**
 * A node that does what the test says: `node.stored` bytes are there, `node.stall` holds a fetch at a share,
 * `node.fail` names an error, `node.answer` is streamed word by word, `node.hold` keeps the answer open.
 */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function fakeClient(node, model, seen) {
  const listeners = new Set();
  const emit = (event) => {
    for (const listener of listeners) listener(event);
  };
  let stored = node.stored ?? 0;
  let loaded = node.loaded ?? false;
  seen.chats = [];
  seen.loads = 0;
  seen.emit = emit;
  seen.node = node;

  const fail = (code) => Object.assign(new Error(`the node says ${code}`), { code, retryable: true });
  const wait = async (signal) => {
    await sleep(node.tick ?? 15);
    if (signal?.aborted) throw fail("cancelled");
  };
  const progress = (stage, done, bytesPerSecond) => {
    emit({
      type: "progress",
      progress: { model: model.id, stage, done, total: model.bytes, fromPeers: 0, peers: 0, bytesPerSecond },
    });
  };

  const load = async (signal) => {
    seen.loads += 1;
    while (stored < model.bytes) {
      await wait(signal);
      if (node.failLoad && stored >= model.bytes * (node.failAt ?? 0.2)) {
        const code = node.failLoad;
        if (node.failOnce) node.failLoad = undefined;
        throw fail(code);
      }
      if (node.stall !== undefined && stored >= model.bytes * node.stall) {
        progress(node.stage ?? "fetch", stored, node.stage === "retry" ? undefined : 3_100_000);
        continue;
      }
      stored = Math.min(model.bytes, stored + model.bytes / (node.steps ?? 20));
      progress("fetch", stored, 3_100_000);
    }
    if (!loaded) {
      progress("load", 0, undefined);
      for (let i = 0; i < (node.loadTicks ?? 3); i += 1) await wait(signal);
      loaded = true;
    }
  };

  return {
    loadModel: (_, { signal } = {}) => load(signal),
    models: async () => [
      {
        ...model,
        quantisation: "Q4_1",
        contextLength: 2048,
        storedBytes: stored,
        loaded,
      },
    ],
    capabilities: async () => ({}),
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async chat(request, { signal, onDelta } = {}) {
      seen.chats.push(structuredClone(request));
      await load(signal);
      if (node.failChat) throw fail(node.failChat);
      for (let i = 0; i < (node.thinkTicks ?? 2) || node.think; i += 1) await wait(signal);
      const words = (node.answer ?? "A tide is a slow wave.").split(/(?<=\s)/);
      let n = 0;
      for (const word of words) {
        await wait(signal);
        onDelta?.({ text: word, tokens: [n] });
        n += 1;
      }
      while (node.hold) await wait(signal);
      return {
        text: "",
        finishReason: node.finish ?? "stop",
        receipt: {
          model: model.id,
          privacy: node.privacy ?? "device",
          backend: "wasm simd128, 2 threads",
          promptTokens: 42,
          reusedTokens: 17,
          completionTokens: node.tokens ?? 128,
          prefillMs: 840,
          decodeMs: 8943,
          bytesSent: node.bytesSent ?? 0,
          seed: 1234567890,
        },
      };
    },
  };
}
