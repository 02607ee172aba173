/**
 * What is known of the model: made only of the node's reports, so that it is right after a reload, in a second
 * tab, and when somebody else (the site, another window) is the one who fetches.
 */
import type { AssistantClient, DeploymentModel } from "../frame/contracts.js";
import type { Event as NodeEvent } from "../protocol/types.js";
import { codeOf } from "./words.js";

export type Phase =
  /** Nobody has told yet. */
  | "unknown"
  /** None or a part of it is here, and nothing moves. */
  | "waiting"
  | "fetch"
  | "retry"
  | "paused"
  /** All of it is on this device, but not in memory. */
  | "stored"
  | "load"
  | "ready"
  | "failed";

export interface ModelState {
  readonly phase: Phase;
  readonly done: number;
  readonly total: number;
  readonly bytesPerSecond: number | null;
  /** With `failed`. */
  readonly error: unknown;
}

export class ModelWatch {
  readonly #client: AssistantClient;
  readonly #model: DeploymentModel;
  readonly #changed: (state: ModelState) => void;
  readonly #end: () => void;
  #state: ModelState;
  #fetching: AbortController | null = null;

  constructor(client: AssistantClient, model: DeploymentModel, changed: (state: ModelState) => void) {
    this.#client = client;
    this.#model = model;
    this.#changed = changed;
    this.#state = { phase: "unknown", done: 0, total: model.bytes, bytesPerSecond: null, error: null };
    this.#end = client.onEvent((event) => this.#heard(event));
  }

  get state(): ModelState {
    return this.#state;
  }

  /** Asks the node what is here. */
  async look(): Promise<void> {
    try {
      const statuses = await this.#client.models();
      const status = statuses.find(({ id }) => id === this.#model.id);
      // A report of progress that came meanwhile is newer than this answer.
      if (status !== undefined && this.#state.phase === "unknown") {
        this.#here(Number(status.storedBytes), Number(status.bytes), status.loaded);
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Fetches and loads; goes on where it stopped. One at a time. */
  async fetch(): Promise<void> {
    if (this.#fetching !== null || this.#state.phase === "ready") {
      return;
    }
    const mine = new AbortController();
    this.#fetching = mine;
    const { phase } = this.#state;
    this.#set({ phase: phase === "stored" ? "load" : "fetch", bytesPerSecond: null });
    try {
      await this.#client.loadModel(this.#model.id, { signal: mine.signal });
      this.#set({ phase: "ready", done: this.#state.total });
    } catch (error) {
      if (!mine.signal.aborted) {
        this.#failed(error);
      }
    } finally {
      if (this.#fetching === mine) {
        this.#fetching = null;
      }
    }
  }

  /** Holds the fetch; what has arrived stays. */
  pause(): void {
    this.#fetching?.abort();
    this.#fetching = null;
    this.#set({ phase: "paused", bytesPerSecond: null });
  }

  /** An answer of the node proves that the model is in memory. */
  answered(): void {
    this.#set({ phase: "ready", done: this.#state.total });
  }

  #failed(error: unknown): void {
    if (codeOf(error) === "cancelled") {
      this.#set({ phase: "paused", bytesPerSecond: null });
    } else {
      this.#set({ phase: "failed", bytesPerSecond: null, error });
    }
  }

  stop(): void {
    this.#end();
    this.#fetching?.abort();
  }

  #heard(event: NodeEvent): void {
    if (event.type === "progress" && event.progress.model === this.#model.id) {
      const { stage, done, total, bytesPerSecond } = event.progress;
      // Bytes that were under way when the visitor paused do not start it again.
      if (this.#state.phase === "paused" && this.#fetching === null && stage !== "load") {
        this.#set({ phase: "paused", done: Number(done), total: Number(total) });
        return;
      }
      if (stage === "load") {
        this.#set({ phase: "load", bytesPerSecond: null });
      } else {
        this.#set({
          phase: stage,
          done: Number(done),
          total: Number(total),
          bytesPerSecond: bytesPerSecond ?? null,
        });
      }
    } else if (event.type === "modelChanged" && event.status.id === this.#model.id) {
      const { storedBytes, bytes, loaded } = event.status;
      const moving = this.#state.phase === "fetch" || this.#state.phase === "load";
      if (loaded || !moving) {
        this.#here(Number(storedBytes), Number(bytes), loaded);
      }
    }
  }

  #here(stored: number, total: number, loaded: boolean): void {
    if (loaded) {
      this.#set({ phase: "ready", done: total, total });
    } else if (this.#state.phase !== "paused" || stored >= total) {
      this.#set({ phase: stored >= total ? "stored" : "waiting", done: stored, total });
    }
  }

  #set(change: Partial<ModelState>): void {
    this.#state = { ...this.#state, error: null, ...change };
    this.#changed(this.#state);
  }
}

/** From 0 to 1. */
export function share({ done, total }: ModelState): number {
  return total > 0 ? Math.min(1, done / total) : 0;
}
