/**
 * One data port inside a node worker. Its outer end is the client; its inner end is the node of this tab or a
 * pipe to the node of another one, and may change while calls are in flight: the relay says hello to the new
 * node on the client's behalf, and the client sends again what the old one owed.
 */
import { isEnvelope, type PortLike, PROTOCOL_VERSION } from "../protocol/port.js";
import type { Origin } from "../protocol/types.js";

export class Relay {
  readonly origin: Origin;
  readonly #outer: PortLike;
  #inner: PortLike | null = null;
  #closed = false;
  readonly #inFlight = new Set<number>();

  /** `wanted` is told when a command finds no node. */
  constructor(outer: PortLike, origin: Origin, wanted: () => void = () => {}) {
    this.origin = origin;
    this.#outer = outer;
    outer.onmessage = (event) => {
      const envelope = event.data;
      // Without a node the client's words are lost on purpose: it repeats them to the next one.
      if (!isEnvelope(envelope)) return;
      if (this.#inner === null) {
        wanted();
        return;
      }
      if (envelope.kind === "command") this.#inFlight.add(envelope.id);
      this.#inner.postMessage(envelope);
    };
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  connect(inner: PortLike): void {
    if (this.#closed) return;
    this.disconnect();
    this.#inner = inner;
    inner.onmessage = (event) => {
      const envelope = event.data;
      if (!isEnvelope(envelope)) return;
      if (envelope.kind === "reply" || envelope.kind === "error") this.#inFlight.delete(envelope.id);
      this.#outer.postMessage(envelope);
    };
    inner.postMessage({ v: PROTOCOL_VERSION, id: 0, kind: "hello" });
  }

  /** The node behind it is gone, or somebody else's turn has come: nothing may go on for nobody. */
  disconnect(): void {
    const inner = this.#inner;
    if (inner === null) return;
    for (const id of this.#inFlight) inner.postMessage({ v: PROTOCOL_VERSION, id, kind: "cancel" });
    this.#inFlight.clear();
    inner.onmessage = null;
    inner.close();
    this.#inner = null;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.disconnect();
    this.#outer.onmessage = null;
    this.#outer.close();
  }
}
