/** The official client, as npm has it, against the service worker of this site. */
import OpenAI from "/openai.js";

const node = window.kwaainet;
const at = (id) => document.getElementById(id);
const state = at("state");
const client = new OpenAI({
  baseURL: `${location.origin}/kwaainet/v1`,
  apiKey: "none",
  dangerouslyAllowBrowser: true,
});

let stopping = null;

/** The visitor's consent comes first, then the service worker takes over this page. */
async function ready() {
  await node.initialize();
  if (!node.consent.status().purposes.includes("runAi")) {
    const { purposes } = await node.consent.ask();
    if (!purposes.includes("runAi")) throw new Error("You said no. Nothing was fetched or stored.");
  }
  await navigator.serviceWorker.ready;
  if (!navigator.serviceWorker.controller) {
    await new Promise((done) =>
      navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }),
    );
  }
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const content = at("question").value.trim();
  if (content === "" || stopping) return;
  stopping = new AbortController();
  at("ask").disabled = true;
  at("stop").disabled = false;
  at("answer").textContent = "";
  at("usage").textContent = "";
  state.className = "small";
  state.textContent = "Waiting for your consent…";
  try {
    await ready();
    state.textContent = "Waiting for the model…";
    const { data: models } = await client.models.list();
    const stream = await client.chat.completions.create(
      {
        model: models[0].id,
        messages: [{ role: "user", content }],
        stream: true,
        stream_options: { include_usage: true },
        max_tokens: 256,
      },
      { signal: stopping.signal },
    );
    for await (const chunk of stream) {
      state.textContent = "Answering…";
      at("answer").append(chunk.choices[0]?.delta?.content ?? "");
      if (chunk.usage) {
        at("usage").textContent =
          `${chunk.usage.prompt_tokens} tokens read, ${chunk.usage.completion_tokens} tokens written`;
      }
    }
    state.textContent = stopping.signal.aborted ? "Stopped." : "Done.";
  } catch (error) {
    state.textContent = stopping.signal.aborted ? "Stopped." : error.message;
    state.classList.toggle("bad", !stopping.signal.aborted);
  } finally {
    stopping = null;
    at("ask").disabled = false;
    at("stop").disabled = true;
  }
});

at("stop").addEventListener("click", () => stopping?.abort());
node.on("progress", ({ stage, done, total }) => {
  if (stopping && stage !== "load")
    state.textContent = `Downloading the model: ${Math.round((100 * done) / total)} %`;
});
