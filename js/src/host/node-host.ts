/**
 * One context that wants to run the node: a tab's worker, or a service worker. At most one per browser and site
 * does (a Web Lock decides); the others hand their ports on to it. When the leader dies the lock passes on, the
 * next one starts its node, and every port is connected to that.
 */
import { errorToBody } from "../protocol/errors.js";
import type { PortLike } from "../protocol/port.js";
import type { ErrorBody, Origin } from "../protocol/types.js";
import { aliveLock, Bus, type Channel, LEADER_LOCK, type Leader } from "./channel-port.js";
import { Relay } from "./relay.js";

/** A running node, of which a host needs no more. */
export interface RunningNode {
  readonly epoch: string;
  /** A new port to the node; what a command on it may ask is decided by `origin`. */
  port(origin: Origin): PortLike;
}

export interface NodeHostHandlers {
  onFault(error: ErrorBody): void;
  /** There is a node: here or in another context. */
  onNode?(): void;
  /** The context that led died, and no other one has taken over yet. */
  onLost?(): void;
  /** A command waits for a node. */
  onWanted?(): void;
}

export class NodeHost {
  readonly #bus: Bus;
  readonly #locks: Pick<LockManager, "request"> | undefined;
  readonly #start: () => Promise<RunningNode>;
  readonly #handlers: NodeHostHandlers;
  readonly #relays = new Set<Relay>();
  #node: RunningNode | null = null;
  #leader: Leader | null = null;

  constructor(
    id: string,
    channel: Channel,
    locks: Pick<LockManager, "request"> | undefined,
    start: () => Promise<RunningNode>,
    handlers: NodeHostHandlers,
  ) {
    this.#locks = locks;
    this.#start = start;
    this.#handlers = handlers;
    const onLeader = (leader: Leader) => this.#follow(leader);
    const onPipe = (pipe: PortLike & { onclose: (() => void) | null }, origin: Origin) => {
      const relay = this.attach(pipe, origin);
      pipe.onclose = () => this.#drop(relay);
    };
    this.#bus = new Bus(id, channel, { onLeader, onPipe }, locks);
    this.#bus.ask();
  }

  /** Commands in flight on the ports of this context. */
  get inFlight(): number {
    let sum = 0;
    for (const relay of this.#relays) sum += relay.inFlight;
    return sum;
  }

  /** A node answers, here or in another context. */
  get hasNode(): boolean {
    return this.#node !== null || this.#leader !== null;
  }

  /** Waits for its turn to lead, and then leads until this context ends. */
  async elect(): Promise<void> {
    if (this.#locks === undefined) {
      await this.#lead();
      return;
    }
    await this.#locks.request(LEADER_LOCK, async () => {
      if (await this.#lead()) await new Promise<void>(() => {});
    });
  }

  attach(port: PortLike, origin: Origin): Relay {
    const relay = new Relay(port, origin, () => this.#handlers.onWanted?.());
    this.#relays.add(relay);
    this.#connect(relay);
    return relay;
  }

  async #lead(): Promise<boolean> {
    try {
      this.#node = await this.#start();
    } catch (error) {
      this.#handlers.onFault(errorToBody(error));
      return false;
    }
    this.#bus.lead(this.#node.epoch);
    for (const relay of this.#relays) this.#connect(relay);
    this.#handlers.onNode?.();
    return true;
  }

  #follow(leader: Leader): void {
    // Without locks nobody could tell that the leader has died, so every tab leads itself.
    if (this.#locks === undefined) return;
    const same = this.#leader?.id === leader.id && this.#leader.epoch === leader.epoch;
    if (this.#node !== null || same) return;
    this.#leader = leader;
    for (const relay of this.#relays) this.#connect(relay);
    this.#handlers.onNode?.();
    void this.#awaitDeath(leader);
  }

  async #awaitDeath(leader: Leader): Promise<void> {
    if (this.#locks === undefined) return;
    await this.#locks.request(aliveLock(leader.id), () => undefined);
    if (this.#leader !== leader || this.#node !== null) return;
    this.#leader = null;
    for (const relay of this.#relays) relay.disconnect();
    this.#handlers.onLost?.();
  }

  #connect(relay: Relay): void {
    if (this.#node !== null) relay.connect(this.#node.port(relay.origin));
    else if (this.#leader !== null) relay.connect(this.#bus.open(this.#leader, relay.origin));
  }

  #drop(relay: Relay): void {
    this.#relays.delete(relay);
    relay.close();
  }
}
