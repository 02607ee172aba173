/** What docs/benchmarks.md says around its tables. */

export const head = ({ command, date, rounds, machine, load }) => `# Benchmarks

Written by \`${command}\` on ${date}; ${rounds === 1 ? "one round" : `medians of ${rounds} rounds in which the engines took turns, with the least and the most of them in brackets`}.
"Times" is how much better KwaaiNet is than the better of those rivals: above 1 is better, for what should be small too. Every
engine reads the same file. A goal that is not reached says **missed**.

Machine: ${machine}. Load average before the run: ${load}.`;

export const sizes = `## The engine alone, as wasm

Built alike, by tests/bench/wasm: wasm32 with SIMD, \`opt-level = 3\` (the template engine \`"z"\`, as we ship it), fat LTO, no
wasm-opt; the same three exports (load a GGUF, read a prompt, decode a token). "Its layers" is ours in candle's shape: tokens in,
a token out. The other also reads the tokenizer and the chat template, as loading a model does with us.`;

export const browser = `## In the browser

Chromium, headless, processor only, the same messages, timed by the page's clock. No engine guesses tokens ahead. With 1
processor all of the browser has only that one. candle has no threads in wasm, so it is only there.

- Prefill and decode: rates of one answer, from the question to its first piece, and from there to its last.
- First token, nothing on the device: from opening the page, for KwaaiNet from the click on "Accept", to the first piece of
  an answer of one token to a question of about 50; code and model come from this machine. One measurement, in the first round.
- First token, model on the device: the same from opening the page in all later rounds, in a browser that was closed and
  started again. Code is fetched, the model is read from the browser's storage and made ready, and the question is read.
- Peak memory: of the browser's renderer processes, without what they share with others, looked at four times a second from
  the first question to the last of these answers; in the first round, which fetches the model, and in the later ones.
- Tasks are counted from before the script tag runs until the last answer; browsers report no interaction shorter than 16 ms,
  so 0 is one that was quicker than can be told.
- candle makes tables of 131,072 positions for each layer of Gemma 3, which are most of its memory there.
- "Failed" and "out of memory" are said where an engine gave no answer; what it said is above the table.`;

export const native = `## Native

As many threads as processors are named. Each engine in a process of its own.

- First token, model on the device: loading the file, which is in the system's cache, and reading 50 tokens; not the start of
  the process. For Python this includes unpacking the GGUF's weights into f32 or bf16, which it then computes with.
- llama.cpp: the prebuilt one of node-llama-cpp, which picks the best of its builds for the processor; "built here"
  (\`--python\`) is compiled for this very one. What each says of itself is above its table.
- Peak memory: the most that the process had resident, with the Node.js or Python that holds it, and while it loads.`;

export const share = `### Share of the memory bandwidth in decode

What \`kwaainet bench\` says of its own decode: the weights that it reads for each token, times tokens per second, against how
fast the same threads read as many bytes over and over when they only add them up. A model that fits into the processor's
cache stays there in both. The better number of threads counts.`;

export const together = `### Answers together

All tokens per second of several answers that are made at the same time, as the server makes them; after prompts of 16
tokens. One answer is the decode of \`kwaainet bench\`, after 128.`;
