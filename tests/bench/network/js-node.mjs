/** What `wire.mjs` asks of ours, asked of js-libp2p. */
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { identify } from "@libp2p/identify";
import { ping } from "@libp2p/ping";
import { lpStream } from "@libp2p/utils";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const ECHO = "/kwaainet/test/echo/1";

/** A node over this transport: a function for each question. */
export function jsNode(transport) {
  const made = createLibp2p({
    transports: [transport],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() },
    // It would call nobody on this machine.
    connectionGater: { denyDialMultiaddr: () => false },
  });

  const open = async (address) => {
    const node = await made;
    const [connection] = node.getConnections();
    return lpStream(await (connection ?? (await node.dial(multiaddr(address)))).newStream(ECHO), {
      maxDataLength: 2 << 20,
    });
  };

  return {
    async dial(address) {
      const node = await made;
      const began = performance.now();
      await node.dial(multiaddr(address));
      return performance.now() - began;
    },

    async hangUp() {
      const node = await made;
      await Promise.all(node.getPeers().map((peer) => node.hangUp(peer)));
    },

    async echo(address, bytes, times) {
      const messages = await open(address);
      const message = new Uint8Array(bytes).map((_, at) => (at * 31) >> 3);
      const took = [];
      for (let time = 0; time < times; time += 1) {
        const began = performance.now();
        const [back] = await Promise.all([messages.read(), messages.write(message)]);
        const whole = back.subarray();
        if (whole.length !== bytes || whole.some((byte, at) => byte !== message[at])) {
          throw new Error("something else came back");
        }
        took.push(performance.now() - began);
      }
      return took;
    },

    async through(address, bytes, times) {
      const messages = await open(address);
      const message = new Uint8Array(bytes).fill(7);
      const began = performance.now();
      const send = async () => {
        for (let time = 0; time < times; time += 1) await messages.write(message);
      };
      const receive = async () => {
        for (let time = 0; time < times; time += 1) {
          if ((await messages.read()).byteLength !== bytes) throw new Error("something else came back");
        }
      };
      await Promise.all([send(), receive()]);
      return performance.now() - began;
    },
  };
}
