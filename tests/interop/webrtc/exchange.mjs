/**
 * js-libp2p dials a peer over WebRTC Direct, in Node.js and, bundled, in a page: pings in a row, identify, and messages of
 * 64 bytes to 1 MB both ways, compared byte by byte.
 */
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { identify } from "@libp2p/identify";
import { ping } from "@libp2p/ping";
import { lpStream } from "@libp2p/utils";
import { webRTCDirect } from "@libp2p/webrtc";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

export const ECHO = "/kwaainet/test/echo/1";
const LENGTHS = [64, 8192, 65_537, 1 << 20];
const PINGS = 30;
/** Long enough for a loaded machine; what has stalled is not done after ten times as long. */
const soon = () => ({ signal: AbortSignal.timeout(20_000) });
const pattern = (length) => new Uint8Array(length).map((_, at) => (at * 31) >> 3);

export const direct = (listen) =>
  createLibp2p({
    addresses: { listen },
    transports: [webRTCDirect()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // In a page js-libp2p would not dial this machine.
    connectionGater: { denyDialMultiaddr: () => false },
    // A ping may begin before js-libp2p has noticed that the one before it has ended.
    services: { identify: identify(), ping: ping({ maxOutboundStreams: 4 }) },
  });

/** @param {string} address @returns what js-libp2p learnt of the peer, and how long everything took in milliseconds */
export async function exchange(address) {
  const js = await direct([]);
  try {
    const began = performance.now();
    const connection = await js.dial(multiaddr(address), soon());
    const told = { connect: performance.now() - began, pings: [], echo: {} };
    for (let count = 0; count < PINGS; count += 1) {
      told.pings.push(await js.services.ping.ping(connection.remotePeer, soon()));
    }
    const stream = await connection.newStream(ECHO, soon());
    const messages = lpStream(stream, { maxDataLength: 2 << 20 });
    for (const length of LENGTHS) {
      const sent = pattern(length);
      const start = performance.now();
      await messages.write(sent, soon());
      const back = (await messages.read(soon())).subarray();
      const wrong = back.length === length ? back.findIndex((byte, at) => byte !== sent[at]) : back.length;
      if (wrong !== -1) throw new Error(`of ${length} bytes, ${back.length} came back, wrong from ${wrong}`);
      told.echo[length] = performance.now() - start;
    }
    await stream.close(soon());
    const known = await js.peerStore.get(connection.remotePeer);
    told.agent = new TextDecoder().decode(known.metadata.get("AgentVersion"));
    return told;
  } finally {
    await js.stop();
  }
}
