// Chat templates: the same text as llama.cpp's own Jinja gives, for all templates of real models that llama.cpp
// collects. They come out of the source bundle inside node-llama-cpp, so none of them is copied here.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { renderWithLlama } from "./lib/llama.mjs";
import { record } from "./lib/table.mjs";

function* collected() {
  const main = createRequire(import.meta.url).resolve("node-llama-cpp");
  const bundle = join(dirname(main), "..", "llama", "gitRelease.bundle");
  const scratch = mkdtempSync(join(tmpdir(), "kwaainet-templates-"));
  const git = (...args) =>
    execFileSync("git", args, { encoding: "utf8", maxBuffer: 1 << 26, stdio: ["ignore", "pipe", "ignore"] });
  try {
    git("clone", "--bare", "--quiet", bundle, scratch);
    const files = git("-C", scratch, "ls-tree", "--name-only", "HEAD", "models/templates/").split("\n");
    for (const file of files.filter((file) => file.endsWith(".jinja"))) {
      const name = file.slice("models/templates/".length, -".jinja".length);
      yield { name, source: git("-C", scratch, "show", `HEAD:${file}`), bos: "<s>", eos: "</s>" };
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Templates that are refused here, and why. They must stay refused, or leave this list. */
const REFUSED = {
  "Reka-Edge": "multiplies two names, for images: a repeated list could exhaust the memory",
  "fireworks-ai-llama-3-firefunction-v2": "wants a variable `datetime` besides those of transformers",
};

const user = (content) => ({ role: "user", content });
const assistant = (content) => ({ role: "assistant", content });
const system = (content) => ({ role: "system", content });

const CONVERSATIONS = [
  [user("Hello")],
  [system("Be brief."), user("Who was Ada Lovelace?")],
  [user(" spaces \n"), assistant("Yes,\n\nindeed "), user("“Ünïcödé” <b>&amp;</b> 🎉 {{ x }} {% if %}")],
  [
    system("You are a pirate."),
    user("1 + 1?"),
    assistant("2"),
    user("and 2 + 2?"),
    assistant("4"),
    user("Thanks"),
  ],
];

const TOOLS = [
  {
    name: "get_weather",
    description: "The weather of a <city>",
    parameters: JSON.stringify({
      type: "object",
      properties: {
        zone: { type: "string", enum: ["a", "b"] },
        city: { type: "string", description: "„Stadt“" },
      },
      required: ["zone"],
    }),
  },
  { name: "now", description: "The time", parameters: JSON.stringify({ type: "object", properties: {} }) },
];

/** Templates that write tools in a notation of ours. */
const WITH_TOOLS = [
  "Qwen-Qwen2.5-7B-Instruct",
  "Qwen-Qwen3-0.6B",
  "Qwen-QwQ-32B",
  "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
  "ibm-granite-granite-4.0",
  "meta-llama-Llama-3.1-8B-Instruct",
  "meta-llama-Llama-3.2-3B-Instruct",
  "meta-llama-Llama-3.3-70B-Instruct",
  "mistralai-Mistral-Nemo-Instruct-2407",
];

/** A call and its result; the arguments as text on their way, as an object in a template. */
function calling(args) {
  const call = (given) => ({
    id: "a1B2c3D4e",
    type: "function",
    function: { name: "get_weather", arguments: given },
  });
  const messages = (given) => [
    system("Be brief."),
    user("What is the weather?"),
    { ...assistant(""), tool_calls: [call(given)] },
    { role: "tool", content: "18 degrees", tool_call_id: "a1B2c3D4e" },
  ];
  const shown = messages(args);
  shown[3].name = "get_weather";
  return { sent: messages(JSON.stringify(args)), shown };
}

const CALLS = [
  { sent: [user("What is the weather?")], shown: [user("What is the weather?")] },
  calling({ zone: "a", city: "Zürich", near: [1, 2.5, null, true] }),
];

/** As transformers gives them to templates. */
const shownTools = TOOLS.map(({ parameters, ...named }) => ({
  type: "function",
  function: { ...named, parameters: JSON.parse(parameters) },
}));

async function checkTools(llama, probe, { name, source, bos, eos }) {
  const now = { now_unix_ms: Date.now() };
  let equal = 0;
  for (const { sent, shown } of CALLS) {
    const ours = await probe.ask({ op: "template", source, bos, eos, messages: sent, tools: TOOLS, ...now });
    const more = { tools: shownTools, add_generation_prompt: true, bos_token: bos, eos_token: eos };
    const theirs = renderWithLlama(llama, source, { messages: shown, ...more });
    if (ours.prompt === theirs) equal += 1;
    else
      console.log(
        `      ${name}:\n      ours   ${JSON.stringify(ours)}\n      theirs ${JSON.stringify(theirs)}`,
      );
  }
  record(
    `tools in chat template ${name}`,
    `${equal} of ${CALLS.length} equal`,
    "all",
    equal === CALLS.length,
  );
}

export async function checkTemplates(llama, probe) {
  for (const { name, source, bos, eos } of collected()) {
    let equal = 0;
    for (const messages of CONVERSATIONS) {
      const ours = await probe.ask({ op: "template", source, bos, eos, messages, now_unix_ms: Date.now() });
      let theirs;
      try {
        const variables = { messages, add_generation_prompt: true, bos_token: bos, eos_token: eos };
        theirs = { prompt: renderWithLlama(llama, source, variables) };
      } catch (error) {
        theirs = { error: error.message };
      }
      const isRefused = name in REFUSED || theirs.error !== undefined;
      const holds = isRefused ? ours.error !== undefined : ours.prompt === theirs.prompt;
      if (holds) equal += 1;
      else
        console.log(
          `      ${name}:\n      ours   ${JSON.stringify(ours)}\n      theirs ${JSON.stringify(theirs)}`,
        );
    }
    if (WITH_TOOLS.includes(name)) await checkTools(llama, probe, { name, source, bos, eos });
    const total = CONVERSATIONS.length;
    const demanded = name in REFUSED ? `refused: it ${REFUSED[name]}` : "all";
    record(`chat template ${name}`, `${equal} of ${total} as expected`, demanded, equal === total);
  }
}
