/** Whom the device of somebody who helps others is connected with: who, how, where and how much. */
import type { AssistantContext } from "../frame/contracts.js";
import { fill, isolate } from "../i18n/locale.js";
import type { NetworkStatus, PeerStatus, Via } from "../protocol/types.js";
import { h, put } from "../ui/dom.js";
import type { Voice } from "./words.js";

/** Names of protocols are the same in every language. */
const transports: Partial<Record<Via, string>> = {
  webSocket: "WebSocket",
  webRtc: "WebRTC",
  quic: "QUIC",
  tcp: "TCP",
};

/** It follows what happens for as long as it is in the page. */
export function peersView({ client }: AssistantContext, voice: Voice): HTMLElement {
  const list = h("ul", { class: "peers" });
  let wasShown = false;
  const draw = async () => {
    const status = await client.network();
    put(list, ...rows(status, voice));
  };
  const end = client.onEvent((event) => {
    if (event.type !== "networkChanged") return;
    if (wasShown && !list.isConnected) end();
    else void draw().catch(ignore);
    wasShown ||= list.isConnected;
  });
  void draw().catch(ignore);
  return h("div", {}, h("h3", {}, voice.words.peers), list);
}

/** The node restarts, and tells again. */
function ignore(): void {}

function rows({ peers, reason }: NetworkStatus, voice: Voice): HTMLElement[] {
  const { words } = voice;
  if (peers.length > 0) return peers.map((peer) => row(peer, voice));
  const why = reason === undefined ? words.alone : fill(words.unconnected, { reason: isolate(reason) });
  return [h("li", { class: "small" }, why)];
}

function row({ peer, via, address, sent, received }: PeerStatus, { words, format }: Voice): HTMLElement {
  const how = via === "relayed" ? words.relayed : (transports[via] ?? via);
  // `/dns4/peer.example.org/tcp/443/…`: the second part says where. Who is relayed is at the relay's.
  const where = via === "relayed" ? "" : (address?.split("/")[2] ?? "");
  const size = (bytes: number) => isolate(format.bytes(bytes));
  const said = fill(words.exchanged, { sent: size(sent), received: size(received) });
  return h(
    "li",
    {},
    h("b", { title: peer }, isolate(`…${peer.slice(-8)}`)),
    h("small", {}, [how, where && isolate(where), said].filter(Boolean).join(" · ")),
  );
}
