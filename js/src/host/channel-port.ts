/**
 * Ports over a BroadcastChannel, for contexts that cannot hand each other a MessagePort: a tab that is not the
 * leader and the service worker reach the leader's node through pipes. Whoever holds a pipe also holds a Web
 * Lock with its own name, so that the other end learns of its death without a timer.
 */
import type { PortLike } from "../protocol/port.js";
import type { Envelope, Origin } from "../protocol/types.js";
import { isObject } from "./site-options.js";

export const BUS_NAME = "kwaainet";
/** Held by the context that runs the node. */
export const LEADER_LOCK = "kwaainet-node";

export function aliveLock(id: string): string {
  return `kwaainet-alive-${id}`;
}

/** Of BroadcastChannel, what is used. */
export interface Channel {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: MessageEvent<unknown>) => void): void;
  close(): void;
}

export interface Leader {
  readonly id: string;
  readonly epoch: string;
}

type Wire =
  | { readonly type: "leader"; readonly id: string; readonly epoch: string }
  | { readonly type: "who" }
  | {
      readonly type: "open";
      readonly to: string;
      readonly from: string;
      readonly pipe: string;
      readonly origin: Origin;
    }
  | { readonly type: "data"; readonly to: string; readonly pipe: string; readonly envelope: unknown }
  | { readonly type: "close"; readonly to: string; readonly pipe: string };

/** Pipes that one other context may have open. */
const MOST_PIPES = 256;

export class Pipe implements PortLike {
  onmessage: PortLike["onmessage"] = null;
  onclose: (() => void) | null = null;
  readonly #send: (message: Wire) => void;
  readonly #to: string;
  readonly #name: string;

  constructor(send: (message: Wire) => void, to: string, name: string) {
    this.#send = send;
    this.#to = to;
    this.#name = name;
  }

  postMessage(envelope: Envelope): void {
    this.#send({ type: "data", to: this.#to, pipe: this.#name, envelope });
  }

  close(): void {
    this.#send({ type: "close", to: this.#to, pipe: this.#name });
  }
}

export interface BusHandlers {
  /** A leader made itself known, or answered `who`. */
  onLeader?(leader: Leader): void;
  /** Somebody opened a pipe to this context; asked only while it leads. */
  onPipe?(pipe: Pipe, origin: Origin): void;
}

export class Bus {
  readonly id: string;
  readonly #channel: Channel;
  readonly #handlers: BusHandlers;
  readonly #locks: Pick<LockManager, "request"> | undefined;
  #epoch: string | null = null;
  readonly #pipes = new Map<string, Pipe>();
  /** Other contexts with pipes to this one, and the pipes of each. */
  readonly #peers = new Map<string, Set<string>>();

  constructor(
    id: string,
    channel: Channel,
    handlers: BusHandlers,
    locks: Pick<LockManager, "request"> | undefined,
  ) {
    this.id = id;
    this.#channel = channel;
    this.#handlers = handlers;
    this.#locks = locks;
    channel.addEventListener("message", (event) => {
      const message = readWire(event.data);
      if (message !== null) this.#receive(message);
    });
  }

  /** Asks whoever leads to say so. */
  ask(): void {
    this.#send({ type: "who" });
  }

  /** From now on this context leads. */
  lead(epoch: string): void {
    this.#epoch = epoch;
    this.#send({ type: "leader", id: this.id, epoch });
  }

  /** This context leads no longer. */
  resign(): void {
    this.#epoch = null;
    for (const [name, pipe] of [...this.#pipes]) {
      pipe.close();
      pipe.onclose?.();
      this.#forget(name);
    }
  }

  open(leader: Leader, origin: Origin): Pipe {
    const name = crypto.randomUUID();
    const pipe = this.#pipe(name, leader.id);
    this.#send({ type: "open", to: leader.id, from: this.id, pipe: name, origin });
    return pipe;
  }

  close(): void {
    this.#channel.close();
  }

  #receive(message: Wire): void {
    switch (message.type) {
      case "leader":
        this.#handlers.onLeader?.(message);
        return;
      case "who":
        if (this.#epoch !== null) this.#send({ type: "leader", id: this.id, epoch: this.#epoch });
        return;
      default:
    }
    if (message.to !== this.id) return;
    switch (message.type) {
      case "open":
        this.#accept(message.from, message.pipe, message.origin);
        return;
      case "data":
        this.#pipes.get(message.pipe)?.onmessage?.({ data: message.envelope });
        return;
      case "close":
        this.#closed(message.pipe);
        return;
      default:
    }
  }

  #accept(from: string, name: string, origin: Origin): void {
    if (this.#epoch === null || this.#pipes.has(name)) return;
    let pipes = this.#peers.get(from);
    if (pipes === undefined) {
      pipes = new Set();
      this.#peers.set(from, pipes);
      void this.#awaitDeath(from);
    }
    if (pipes.size >= MOST_PIPES) return;
    pipes.add(name);
    this.#handlers.onPipe?.(this.#pipe(name, from), origin);
  }

  async #awaitDeath(peer: string): Promise<void> {
    await this.#locks?.request(aliveLock(peer), () => undefined);
    if (this.#locks === undefined) return;
    for (const name of this.#peers.get(peer) ?? []) this.#closed(name);
    this.#peers.delete(peer);
  }

  #pipe(name: string, to: string): Pipe {
    const pipe = new Pipe(
      (message) => {
        if (message.type === "close") this.#forget(name);
        this.#send(message);
      },
      to,
      name,
    );
    this.#pipes.set(name, pipe);
    return pipe;
  }

  #closed(name: string): void {
    const pipe = this.#pipes.get(name);
    this.#forget(name);
    pipe?.onclose?.();
  }

  #forget(name: string): void {
    this.#pipes.delete(name);
    for (const pipes of this.#peers.values()) pipes.delete(name);
  }

  #send(message: Wire): void {
    this.#channel.postMessage(message);
  }
}

const string = (value: unknown): value is string => typeof value === "string";

function readWire(data: unknown): Wire | null {
  if (!isObject(data)) return null;
  const { type, id, epoch, to, from, pipe, origin, envelope } = data;
  switch (type) {
    case "who":
      return { type };
    case "leader":
      return string(id) && string(epoch) ? { type, id, epoch } : null;
    case "open":
      // Nobody is an operator in a browser.
      return string(to) && string(from) && string(pipe) && (origin === "site" || origin === "panel")
        ? { type, to, from, pipe, origin }
        : null;
    case "data":
      return string(to) && string(pipe) ? { type, to, pipe, envelope } : null;
    case "close":
      return string(to) && string(pipe) ? { type, to, pipe } : null;
    default:
      return null;
  }
}

/** Holds the lock with this context's name until it dies. */
export function holdAlive(id: string, locks: LockManager | undefined): Promise<void> {
  return new Promise((held) => {
    if (locks === undefined) return held();
    void locks.request(aliveLock(id), () => {
      held();
      return new Promise<void>(() => {});
    });
  });
}
