/** What a site does with `window.kwaainet`: nothing here is known to anybody but this page and the visitor's device. */
const node = window.kwaainet;
const at = (id) => document.getElementById(id);
const state = at("state");

let stopping = null;

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
  state.textContent = "Waiting for your consent or the model…";
  try {
    const stream = await node.chat.completions.create(
      {
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
    state.textContent = "Done.";
  } catch (error) {
    // Every error has a code for programs and a sentence for people.
    const words = { cancelled: "Stopped.", consentRequired: "You said no. Nothing was fetched or stored." };
    state.textContent = words[error.code] ?? `${error.message} (${error.code ?? error.name})`;
    state.classList.toggle("bad", !(error.code in words));
  } finally {
    stopping = null;
    at("ask").disabled = false;
    at("stop").disabled = true;
    at("fetching").hidden = true;
  }
});

at("stop").addEventListener("click", () => stopping?.abort());

at("look").addEventListener("click", async () => {
  try {
    at("capabilities").textContent = JSON.stringify(await node.capabilities(), null, 2);
  } catch (error) {
    at("capabilities").textContent = error.message;
  }
});

const log = (name, value) => {
  const item = document.createElement("li");
  item.textContent = `${name}: ${JSON.stringify(value)}`;
  at("log").prepend(item);
  while (at("log").childElementCount > 12) at("log").lastElementChild.remove();
};
for (const name of ["ready", "consent", "model", "warning", "error"]) {
  node.on(name, (value) =>
    log(name, name === "error" ? { code: value.code, message: value.message } : value),
  );
}
node.on("progress", (value) => {
  log("progress", value);
  at("fetching").hidden = value.stage === "load" || !stopping;
  at("bar").value = value.done / value.total;
  if (stopping) {
    const megabytes = (bytes) => Math.round(bytes / 1e6);
    state.textContent =
      value.stage === "load"
        ? "Reading the model…"
        : `Downloading the model: ${megabytes(value.done)} of ${megabytes(value.total)} MB`;
  }
});
