import type { PortLike } from "../../src/protocol/port.js";
import type { Envelope } from "../../src/protocol/types.js";

/** Two ends of a port in one process; what is posted arrives later and as a copy, as with the real ones. */
export function portPair(): [FakePort, FakePort] {
  const [one, two] = [new FakePort(), new FakePort()];
  one.other = two;
  two.other = one;
  return [one, two];
}

export class FakePort implements PortLike {
  onmessage: PortLike["onmessage"] = null;
  other: FakePort | null = null;
  closed = false;

  postMessage(message: Envelope): void {
    const data: unknown = structuredClone(message);
    const { other } = this;
    // What was posted before this end was closed still arrives.
    if (this.closed) return;
    queueMicrotask(() => {
      if (other?.closed === false) other.onmessage?.({ data });
    });
  }

  close(): void {
    this.closed = true;
  }
}

/** Web Locks as far as they are used: exclusive, first come first served, and released when a context dies. */
export class FakeLocks {
  readonly #queues = new Map<string, (() => void)[]>();
  readonly #held = new Map<string, { context: string; release: () => void }>();

  /** The lock manager as one context sees it. */
  of(context: string): LockManager {
    const request = async (name: string, callback: (lock: Lock | null) => unknown) => {
      while (this.#held.has(name)) {
        await new Promise<void>((resolve) => {
          this.#queues.set(name, [...(this.#queues.get(name) ?? []), resolve]);
        });
      }
      let release: () => void = () => {};
      const killed = new Promise<void>((resolve) => {
        release = resolve;
      });
      this.#held.set(name, { context, release });
      try {
        return await Promise.race([callback({ name, mode: "exclusive" }), killed]);
      } finally {
        this.#held.delete(name);
        const waiting = this.#queues.get(name)?.shift();
        waiting?.();
      }
    };
    return { request, query: async () => ({}) } as unknown as LockManager;
  }

  kill(context: string): void {
    for (const { context: holder, release } of [...this.#held.values()]) {
      if (holder === context) release();
    }
  }
}

/** BroadcastChannels of one origin. */
export class FakeAir {
  readonly #channels = new Set<FakeChannel>();

  channel(): FakeChannel {
    const channel = new FakeChannel((from, data) => {
      for (const other of this.#channels) if (other !== from) other.hear(structuredClone(data));
    });
    this.#channels.add(channel);
    return channel;
  }
}

export class FakeChannel {
  readonly #listeners: ((event: MessageEvent<unknown>) => void)[] = [];
  readonly #say: (from: FakeChannel, data: unknown) => void;
  closed = false;

  constructor(say: (from: FakeChannel, data: unknown) => void) {
    this.#say = say;
  }

  postMessage(message: unknown): void {
    if (!this.closed) queueMicrotask(() => this.#say(this, message));
  }

  addEventListener(_type: "message", listener: (event: MessageEvent<unknown>) => void): void {
    this.#listeners.push(listener);
  }

  hear(data: unknown): void {
    if (this.closed) return;
    for (const listener of this.#listeners) listener({ data } as MessageEvent<unknown>);
  }

  close(): void {
    this.closed = true;
  }
}

export async function until(check: () => boolean, what = "the condition"): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (check()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`${what} did not come true`);
}
