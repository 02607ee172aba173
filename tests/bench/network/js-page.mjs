/** js-libp2p over WebRTC, which browsers have in windows only. */
import { webRTCDirect } from "@libp2p/webrtc";
import { jsNode } from "./js-node.mjs";

globalThis.jsNode = () => jsNode(webRTCDirect());
