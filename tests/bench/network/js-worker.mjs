/** js-libp2p over WebSocket, in a worker. */
import { webSockets } from "@libp2p/websockets";
import { jsNode } from "./js-node.mjs";

const asked = jsNode(webSockets());

globalThis.onmessage = async ({ data: [id, what, ...args] }) => {
  try {
    globalThis.postMessage([id, await asked[what](...args)]);
  } catch (error) {
    globalThis.postMessage([id, undefined, String(error)]);
  }
};
