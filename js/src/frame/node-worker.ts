/** Starts the node worker, and starts another one when it dies. */

import { aliveLock } from "../host/channel-port.js";
import { usableLocks } from "../host/locks.js";
import type { FromWorker, ToWorker, WorkerStart } from "../host/worker-messages.js";
import { KwaaiNetError } from "../protocol/errors.js";
import type { Origin } from "../protocol/types.js";

export interface NodeWorkerHandlers {
  /** The worker died and another one was started: every port has to be made anew. */
  onRestart(): void;
  onFault(error: KwaaiNetError): void;
  onTick(): void;
  /** The network's worker asks for WebRTC connections over this port. */
  onPeerConnections(port: MessagePort): void;
}

/** Deaths within [`PERIOD_MS`] after which it is not started again: then something is wrong for good. */
const MOST_DEATHS = 5;
const PERIOD_MS = 60_000;

export class NodeWorker {
  readonly #make: () => Worker;
  readonly #start: Omit<WorkerStart, "type" | "id">;
  readonly #handlers: NodeWorkerHandlers;
  #worker: Worker | null = null;
  #deaths: number[] = [];

  constructor(make: () => Worker, start: Omit<WorkerStart, "type" | "id">, handlers: NodeWorkerHandlers) {
    this.#make = make;
    this.#start = start;
    this.#handlers = handlers;
  }

  get running(): boolean {
    return this.#worker !== null;
  }

  start(): void {
    if (this.#worker !== null) return;
    const id = crypto.randomUUID();
    let worker: Worker;
    try {
      worker = this.#make();
    } catch (error) {
      this.#handlers.onFault(blocked(error));
      return;
    }
    this.#worker = worker;
    worker.onerror = () => {
      if (this.#worker !== worker) return;
      this.stop();
      this.#handlers.onFault(blocked());
    };
    worker.onmessage = (event: MessageEvent<FromWorker>) => {
      const message = event.data;
      if (this.#worker !== worker) return;
      if (message.type === "alive") {
        // From now on an error is the node's own business: it says `fault`, or dies.
        worker.onerror = null;
        void this.#awaitDeath(worker, id);
      } else if (message.type === "tick") {
        this.#handlers.onTick();
      } else if (message.type === "peerConnections") {
        const [port] = event.ports;
        if (port !== undefined) this.#handlers.onPeerConnections(port);
      } else {
        const { code, message: text, retryable } = message.error;
        this.#handlers.onFault(new KwaaiNetError(code, text, { retryable }));
      }
    };
    this.#post({ type: "start", id, ...this.#start });
  }

  /** Hands a data port on to the node. */
  transfer(port: MessagePort, origin: Origin): void {
    this.#post({ type: "port", origin }, [port]);
  }

  stop(): void {
    this.#worker?.terminate();
    this.#worker = null;
  }

  async #awaitDeath(worker: Worker, id: string): Promise<void> {
    const locks = await usableLocks();
    if (locks === undefined) return;
    // The worker holds this lock as long as it lives, so getting it means that it does not.
    await locks.request(aliveLock(id), () => undefined);
    if (this.#worker !== worker) return;
    this.stop();
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < PERIOD_MS), now];
    if (this.#deaths.length >= MOST_DEATHS) {
      const message = `The node stopped ${MOST_DEATHS} times within a minute and is not started again: reload the page.`;
      this.#handlers.onFault(new KwaaiNetError("internal", message));
      return;
    }
    this.start();
    this.#handlers.onRestart();
  }

  #post(message: ToWorker, transfer: Transferable[] = []): void {
    this.#worker?.postMessage(message, transfer);
  }
}

function blocked(cause?: unknown): KwaaiNetError {
  const message =
    "The node's worker could not be started: check that its files are served and no policy blocks workers.";
  return new KwaaiNetError("hostBlocked", message, { cause });
}
