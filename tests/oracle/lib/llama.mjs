// llama.cpp through node-llama-cpp's prebuilt addon: below its public API, because that gives no logits.
import { availableParallelism } from "node:os";

export async function openLlama() {
  const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
  return getLlama({ build: "never", skipDownload: true, gpu: false, logLevel: LlamaLogLevel.disabled });
}

export class LlamaModel {
  #addon;
  #bindings;
  #context;
  #model;
  #sampler;

  static async load(llama, path, { vocabOnly = false, contextSize = 1024 } = {}) {
    const self = new LlamaModel();
    self.#model = await llama.loadModel({ modelPath: path, vocabOnly });
    self.#addon = self.#model._model;
    self.#bindings = llama._bindings;
    if (!vocabOnly) {
      self.#context = new self.#bindings.AddonContext(self.#addon, {
        contextSize,
        batchSize: contextSize,
        sequences: 1,
        flashAttention: false,
        threads: availableParallelism(),
      });
      if (!(await self.#context.init())) throw new Error(`llama.cpp has no context for ${path}`);
      self.#sampler = new self.#bindings.AddonSampler(self.#addon);
      self.#sampler.applyConfig({ temperature: 0 });
    }
    return self;
  }

  /** Token ids, without beginning and end of text. */
  tokenize(text, parseSpecial) {
    return [...this.#addon.tokenize(text, parseSpecial)];
  }

  /** What this model puts before a text. */
  prefix() {
    return this.#addon.shouldPrependBosToken() ? [this.#addon.tokenBos()] : [];
  }

  ends(count) {
    return Array.from({ length: count }, (_, id) => id).filter((id) => this.#addon.isEogToken(id));
  }

  async #evaluate(tokens, first, wanted) {
    if (first === 0) this.#context.disposeSequence(0);
    this.#context.initBatch(tokens.length);
    const places = this.#context.addToBatch(0, first, Uint32Array.from(tokens), Uint32Array.from(wanted));
    await this.#context.decodeBatch();
    return places;
  }

  /** Logits behind the last token, by token id. */
  async logits(tokens) {
    const [place] = await this.#evaluate(tokens, 0, [tokens.length - 1]);
    const [, , , pairs] = await this.#context.sampleToken(place, this.#sampler, false, false, true);
    const logits = new Float32Array(pairs.length / 2);
    for (let i = 0; i < pairs.length; i += 2) logits[pairs[i]] = pairs[i + 1];
    return logits;
  }

  /** The likeliest tokens, one after the other, up to an end token. */
  async greedy(tokens, count) {
    let [place] = await this.#evaluate(tokens, 0, [tokens.length - 1]);
    const answer = [];
    while (answer.length < count) {
      const token = await this.#context.sampleToken(place, this.#sampler);
      if (this.#addon.isEogToken(token)) break;
      answer.push(token);
      if (answer.length < count)
        [place] = await this.#evaluate([token], tokens.length + answer.length - 1, [0]);
    }
    return answer;
  }

  /** Natural logarithms of the probabilities of tokens[1..]. */
  async score(tokens) {
    const wanted = Array.from({ length: tokens.length - 1 }, (_, i) => i);
    const places = await this.#evaluate(tokens, 0, wanted);
    const scores = [];
    for (const [i, place] of places.entries()) {
      const next = tokens[i + 1];
      // Logits of the next token and of the likeliest, and the sum of exp(logit - highest).
      const options = [[next], false, false, true, 0];
      const [best, , , pairs, weight] = await this.#context.sampleToken(
        place,
        this.#sampler,
        false,
        false,
        options,
        true,
      );
      const logit = (id) => pairs[pairs.findIndex((value, at) => at % 2 === 0 && value === id) + 1];
      scores.push(logit(next) - logit(best) - Math.log(weight));
    }
    return scores;
  }

  async close() {
    this.#sampler?.dispose();
    await this.#context?.dispose();
    await this.#model.dispose();
  }
}

/** llama.cpp's own Jinja, for chat templates. */
export function renderWithLlama(llama, source, variables) {
  return new llama._bindings.AddonJinjaRenderer(source).render(variables);
}
