/** Peers to talk with: ours, each a process of its own, and js-libp2p in this one. */

// js-libp2p needs Node.js 22 for nothing but these two.
globalThis.WebSocket ??= (await import("ws")).WebSocket;
Promise.withResolvers ??= function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
const { createLibp2p } = await import("libp2p");
const { tcp } = await import("@libp2p/tcp");
const { webSockets } = await import("@libp2p/websockets");
const { noise } = await import("@chainsafe/libp2p-noise");
const { yamux } = await import("@chainsafe/libp2p-yamux");
const { identify } = await import("@libp2p/identify");
const { ping } = await import("@libp2p/ping");
const { kadDHT, passthroughMapper } = await import("@libp2p/kad-dht");
export const { lpStream } = await import("@libp2p/utils");
export const { multiaddr } = await import("@multiformats/multiaddr");
export const { peerIdFromString } = await import("@libp2p/peer-id");

export { ourPeer, program, until } from "./our-peer.mjs";

export const jsPeer = (listen, more = {}) =>
  createLibp2p({
    ...more,
    addresses: { listen },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: "/kwaainet/kad/1.0.0",
        clientMode: false,
        peerInfoMapper: passthroughMapper,
      }),
    },
  });
