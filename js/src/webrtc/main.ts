/**
 * The window's half of WebRTC: browsers have `RTCPeerConnection` nowhere else. It makes connections for the network's
 * worker and moves their messages; it understands none of them. sdk-wasm/network/src/webrtc/wire.rs says what travels.
 */

const TO_PAGE = { offer: 1, answer: 2, open: 3, send: 4, close: 5 } as const;
const FROM_PAGE = { offered: 1, incoming: 2, message: 3, sent: 4, closed: 5, failed: 6 } as const;
/** Both peers open this channel by agreement. */
const HANDSHAKE = 0;
/** What was handed to a channel is told as sent when so many bytes or fewer are left of it. */
const LOW_WATER = 64 << 10;

/** For each port that comes over this one, a connection. */
export function servePeerConnections(port: MessagePort): void {
  port.onmessage = ({ ports: [connection] }) => {
    if (connection !== undefined) serve(connection);
  };
}

interface Lane {
  readonly channel: RTCDataChannel;
  /** Came before the channel was open. */
  readonly early: Uint8Array<ArrayBuffer>[];
  /** Bytes handed over, and how many of them were told as sent. */
  handed: number;
  told: number;
}

function serve(port: MessagePort): void {
  const lanes = new Map<number, Lane>();
  let incoming = -1;
  let ended = false;

  const say = (kind: number, parts: { channel?: number; count?: number; bytes?: Uint8Array }) => {
    const { channel, count, bytes } = parts;
    const numbers = [channel, count].filter((number) => number !== undefined);
    const message = new Uint8Array(1 + 4 * numbers.length + (bytes?.length ?? 0));
    const view = new DataView(message.buffer);
    message[0] = kind;
    for (const [at, number] of numbers.entries()) view.setUint32(1 + 4 * at, number, true);
    if (bytes !== undefined) message.set(bytes, 1 + 4 * numbers.length);
    port.postMessage(message.buffer, [message.buffer]);
  };
  const text = (words: string) => ({ bytes: new TextEncoder().encode(words) });

  const end = (reason: string) => {
    if (ended) return;
    ended = true;
    say(FROM_PAGE.failed, text(reason));
    port.close();
    connection?.close();
  };
  port.addEventListener("close", () => end("the worker is gone"));

  const connection = make();
  if (connection === null) {
    // Nobody listens before the port is started, and a closed one says nothing: so it says it first.
    end("this browser has no WebRTC, or does not allow it here");
    return;
  }

  const carry = (id: number, channel: RTCDataChannel): Lane => {
    const lane: Lane = { channel, early: [], handed: 0, told: 0 };
    const tellSent = () => {
      const sent = lane.handed - channel.bufferedAmount - lane.told;
      if (sent <= 0) return;
      lane.told += sent;
      say(FROM_PAGE.sent, { channel: id, count: sent });
    };
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW_WATER;
    channel.onbufferedamountlow = tellSent;
    channel.onopen = () => {
      for (const message of lane.early.splice(0)) hand(lane, message);
      tellSent();
    };
    channel.onmessage = ({ data }) => {
      // Text is no part of the protocol, and whoever sends it will notice by the answer it does not get.
      if (data instanceof ArrayBuffer) say(FROM_PAGE.message, { channel: id, bytes: new Uint8Array(data) });
    };
    channel.onclose = () => {
      if (lanes.delete(id) && !ended) say(FROM_PAGE.closed, { channel: id });
    };
    lanes.set(id, lane);
    return lane;
  };
  const hand = (lane: Lane, message: Uint8Array<ArrayBuffer>) => {
    if (lane.channel.readyState !== "open") return;
    lane.channel.send(message);
    lane.handed += message.length;
  };

  connection.ondatachannel = ({ channel }) => {
    incoming += 2;
    say(FROM_PAGE.incoming, { channel: incoming });
    carry(incoming, channel);
  };
  connection.onconnectionstatechange = () => {
    const { connectionState } = connection;
    if (connectionState === "failed" || connectionState === "closed")
      end(`the connection ${connectionState}`);
  };

  const act = async (message: Uint8Array<ArrayBuffer>) => {
    const [kind] = message;
    if (kind === TO_PAGE.offer) {
      carry(HANDSHAKE, connection.createDataChannel("", { negotiated: true, id: HANDSHAKE }));
      await connection.setLocalDescription();
      say(FROM_PAGE.offered, text(connection.localDescription?.sdp ?? ""));
      return;
    }
    if (kind === TO_PAGE.answer) {
      const sdp = new TextDecoder().decode(message.subarray(1));
      await connection.setRemoteDescription({ type: "answer", sdp });
      return;
    }
    const id = new DataView(message.buffer).getUint32(1, true);
    const lane = lanes.get(id);
    if (kind === TO_PAGE.open) {
      carry(id, connection.createDataChannel(""));
    } else if (lane !== undefined && kind === TO_PAGE.send) {
      const content = message.subarray(5);
      if (lane.channel.readyState === "connecting") {
        lane.early.push(content);
        return;
      }
      hand(lane, content);
      if (lane.channel.bufferedAmount <= LOW_WATER) lane.channel.onbufferedamountlow?.(new Event("sent"));
    } else if (lane !== undefined && kind === TO_PAGE.close) {
      lanes.delete(id);
      lane.channel.close();
    }
  };
  port.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    // The last message of a port of the worker's is empty.
    if (data.byteLength === 0) end("the worker is gone");
    else act(new Uint8Array(data)).catch((error: unknown) => end(String(error)));
  };
}

function make(): RTCPeerConnection | null {
  try {
    // No STUN servers: whoever is dialled has an address that everybody knows.
    return new RTCPeerConnection();
  } catch {
    return null;
  }
}
