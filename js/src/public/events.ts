import { KwaaiNetError } from "../protocol/errors.js";
import type { ModelStatus, NetworkStatus, Progress, Purpose } from "../protocol/types.js";

/** What the visitor agreed to; empty where nothing was. */
export interface ConsentStatus {
  readonly purposes: readonly Purpose[];
}

export interface KwaaiNetEvents {
  /** The host answered. Nothing is fetched or stored yet, unless the visitor agreed at an earlier visit. */
  ready: ConsentStatus;
  /** The visitor agreed, refused, changed or withdrew. */
  consent: ConsentStatus;
  /** A model is being fetched or loaded. */
  progress: Progress;
  /** A model's state on this device changed. */
  model: ModelStatus;
  /** Peers came or went, or something was said to them; at most once a second. */
  network: NetworkStatus;
  /** Something that a developer should know. */
  warning: { readonly message: string };
  /** Something failed outside of a call. */
  error: KwaaiNetError;
  /** Accepted, and never fired in this version: nothing is earned. */
  earnings: never;
  /** Accepted, and never fired in this version: nothing is measured. */
  environmentalImpact: never;
}

const names: readonly (keyof KwaaiNetEvents)[] = [
  "ready",
  "consent",
  "progress",
  "model",
  "network",
  "warning",
  "error",
  "earnings",
  "environmentalImpact",
];

type Listener = (value: never) => void;

export class Emitter {
  readonly #listeners = new Map<keyof KwaaiNetEvents, Set<Listener>>();

  on<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): void {
    if (!names.includes(event)) {
      throw new KwaaiNetError(
        "badRequest",
        `There is no event ${String(event)}; use one of ${names.join(", ")}.`,
      );
    }
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
  }

  off<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): void {
    this.#listeners.get(event)?.delete(listener);
  }

  /** Whether anybody listened. A listener that throws does not keep the others from being told. */
  emit<E extends keyof KwaaiNetEvents>(event: E, value: KwaaiNetEvents[E]): boolean {
    const listeners = [...(this.#listeners.get(event) ?? [])];
    for (const listener of listeners) {
      try {
        listener(value as never);
      } catch (error) {
        reportError(error);
      }
    }
    return listeners.length > 0;
  }
}
