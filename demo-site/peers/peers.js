/** What a site sees of the network: who is connected, how, and how much was said. */
const node = window.kwaainet;
const [state, peers, download] = ["state", "peers", "download"].map((id) => document.getElementById(id));

const words = {
  off: "is in no network",
  joining: "is joining",
  joined: "is connected",
};
const ways = { webSocket: "WebSocket", webRtc: "WebRTC", relayed: "through the relay" };
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function show(network) {
  state.textContent = network.reason ? `${words[network.state]} (${network.reason})` : words[network.state];
  const rows = network.peers.map(({ peer, via, sent, received }) => {
    const row = document.createElement("li");
    const said = `${megabytes(received)} received, ${megabytes(sent)} sent`;
    row.textContent = `…${peer.slice(-8)}: ${ways[via] ?? via}, ${said}`;
    return row;
  });
  peers.replaceChildren(...(rows.length > 0 ? rows : ["nobody"]));
}
node.on("network", show);

let stage;
node.on("progress", ({ stage: now, done, total, fromPeers, peers: many }) => {
  stage = now;
  if (now !== "fetch") return;
  download.textContent =
    `${megabytes(done)} of ${megabytes(total)}; of what came now, ${megabytes(fromPeers)} from ${many} ` +
    `${many === 1 ? "peer" : "peers"}`;
});

async function follow({ purposes }) {
  if (!purposes.includes("helpOthers")) state.textContent = "has not agreed to help others";
  if (purposes.includes("runAi")) show(await node.network.status());
}
node.on("ready", follow);
node.on("consent", follow);

document.getElementById("choices").addEventListener("click", () => node.consent.ask());
document.getElementById("fetch").addEventListener("click", async () => {
  const messages = [{ role: "user", content: "Hi" }];
  try {
    await node.chat.completions.create({ messages, max_tokens: 1 });
    if (stage !== "fetch") download.textContent ||= "The model was on this device already.";
  } catch (error) {
    download.textContent = error.message;
  }
});
