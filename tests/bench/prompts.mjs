/** The same questions for every engine. A number in the first words keeps every engine from reusing an earlier prompt. */

const words =
  "The river carries what the mountain lets go: sand, leaves, the colour of clay, and in spring the cold. " +
  "A miller counts days by the sound of the wheel; a heron counts them by the height of the water. ";

/** Messages that make about `tokens` tokens with SmolLM2's template (about 20 words of it are not ours). */
export function messages(tokens, round) {
  const filler = Math.max(0, tokens - 44);
  // Measured with SmolLM2's tokenizer: this text has 4.6 characters per token.
  const text = words.repeat(Math.ceil((filler * 4.6) / words.length)).slice(0, Math.floor(filler * 4.6));
  return [
    { role: "system", content: `${round} You are a patient narrator.` },
    { role: "user", content: `${text}\nGo on with this text, at length.` },
  ];
}

/** ChatML for engines that take plain text: SmolLM2's own template, and what we write for a model without one (Gemma's file). */
export function chatml(list) {
  const turns = list.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`);
  return `${turns.join("")}<|im_start|>assistant\n`;
}

export const DECODE = 64;
export const PREFILL = [128, 512];
/** Tokens of the first question, whose first token is waited for. */
export const FIRST = 50;
/** Short as it is, it has fewer tokens than asked for. */
export const question = (round) => messages(FIRST + 11, round);
