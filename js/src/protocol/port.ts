import type { Envelope } from "./types.js";

/** What a MessagePort and a pipe over a BroadcastChannel have in common. */
export interface PortLike {
  postMessage(message: Envelope): void;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  close(): void;
}

/** Version of the protocol; the node must have the same (sdk-core/types/src/protocol.rs). */
export const PROTOCOL_VERSION = 1;

/** Commands that one port may have in flight (sdk-core/types/src/protocol.rs). */
export const MOST_IN_FLIGHT = 64;

const kinds = new Set([
  "hello",
  "welcome",
  "command",
  "cancel",
  "chunk",
  "reply",
  "error",
  "event",
  "ping",
  "pong",
]);

/**
 * Whether something from a port has the outline of an envelope. Bodies are not looked into: the node parses
 * what it is sent, and a client trusts the node that its own origin started.
 */
export function isEnvelope(data: unknown): data is Envelope {
  if (typeof data !== "object" || data === null) return false;
  const { v, id, kind } = data as { v?: unknown; id?: unknown; kind?: unknown };
  return typeof v === "number" && typeof id === "number" && typeof kind === "string" && kinds.has(kind);
}

/** A MessagePort as a port of envelopes. The cast is sound: everything that arrives goes through `isEnvelope`. */
export function asPort(port: MessagePort): PortLike {
  return port as unknown as PortLike;
}
