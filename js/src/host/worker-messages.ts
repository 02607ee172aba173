/** Between the bridge page and the node worker it started; both are ours. Envelopes never travel here. */
import type { ErrorBody, Missing, Origin } from "../protocol/types.js";
import type { Deployment } from "./deployment.js";
import type { HostKind } from "./site-options.js";

export interface WorkerStart {
  readonly type: "start";
  /** Names the worker's lock and its pipes. */
  readonly id: string;
  readonly host: HostKind;
  readonly deployment: Deployment;
  /** What the window found missing; a worker cannot ask. */
  readonly missing: readonly Missing[];
}

export type ToWorker =
  | WorkerStart
  /** With a data port. */
  | { readonly type: "port"; readonly origin: Origin };

export type FromWorker =
  /** It holds its lock from now on. */
  | { readonly type: "alive" }
  | { readonly type: "fault"; readonly error: ErrorBody }
  /** Work is in flight: whoever hosts the node in a service worker must keep that alive. */
  | { readonly type: "tick" }
  /** With a port of the network's worker, over which it asks for WebRTC connections. */
  | { readonly type: "peerConnections" };

/** What the node's worker sends to the network's, once, with two ports: its own, and one to the window. */
export interface NetworkStart {
  readonly wasm: string;
  /** The secret of this visit's key. */
  readonly seed: Uint8Array;
  /** Addresses of the peers that are called first, and that relay. */
  readonly known: readonly string[];
}
