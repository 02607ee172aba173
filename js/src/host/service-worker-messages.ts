/** Between pages and the service worker. */
import type { Deployment } from "./deployment.js";
import { isObject } from "./site-options.js";

/**
 * The query with which the bridge registers the service worker of our folder: only that one keeps our files. One at
 * a site's root answers `/kwaainet/v1/` and leaves everything else of the site alone.
 */
export const SHELL = "shell";

export const CACHE_PREFIX = "kwaainet-shell-";

export type ToServiceWorker =
  /** A stream is open: stay alive. */
  | { readonly type: "ping" }
  /** Be, or stay, the host of the node. */
  | { readonly type: "host"; readonly deployment: Deployment }
  /** Immutable files to keep. */
  | { readonly type: "shell"; readonly urls: readonly string[] };

/** To the page that reads a stream: ping me while `open` is above 0. */
export interface FromServiceWorker {
  readonly type: "kwaainet-streams";
  readonly open: number;
}

export function readFromServiceWorker(data: unknown): FromServiceWorker | null {
  if (!isObject(data)) return null;
  const { type, open } = data;
  return type === "kwaainet-streams" && typeof open === "number" ? { type, open } : null;
}
