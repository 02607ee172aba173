/** What this context offers, and for each missing rung of the ladder what happens instead. */

import type { HostKind } from "../host/site-options.js";
import type { HostReport, Missing } from "../protocol/types.js";

export interface Probes {
  readonly host: HostKind;
  readonly processors: number;
  readonly isolated: boolean;
  /** The deployment has a build with threads. */
  readonly threadsBuilt: boolean;
  /** There was no room for the memory that threads share, which is reserved as a whole. */
  readonly noSharedMemory?: boolean;
  readonly webLocks: boolean;
  /** What the window found. */
  readonly missing: readonly Missing[];
}

/** More threads than this compete for memory bandwidth and for the site's own work. */
const MOST_THREADS = 8;

/** Threads worth asking for. A service worker may be isolated, but has no workers to share memory with. */
export function threadsOf({ host, isolated, threadsBuilt, noSharedMemory, processors }: Probes): number {
  if (!isolated || !threadsBuilt || noSharedMemory === true || host === "service-worker") return 1;
  return Math.max(1, Math.min(processors, MOST_THREADS));
}

/** The host's part of the report. Storage, threads and tier are what is asked for; the node corrects them. */
export function makeReport(probes: Probes): HostReport {
  const { host, processors, isolated, threadsBuilt, noSharedMemory, webLocks } = probes;
  const threads = threadsOf(probes);
  const missing: Missing[] = [...probes.missing];
  const lacks = (what: string, instead: string) => missing.push({ what, instead });
  if (host === "service-worker") lacks("workers", "one thread computes, in short slices");
  else if (!isolated) lacks("crossOriginIsolated", "one thread computes");
  else if (!threadsBuilt) lacks("build with threads", "one thread computes");
  else if (noSharedMemory === true) lacks("room for shared memory", "one thread computes");
  lacks("webgpu", "the processor computes; this version has no GPU backend");
  if (!webLocks) lacks("webLocks", "every tab runs a node of its own");
  return {
    host,
    backend: "wasm simd128",
    threads,
    processors,
    storage: storageOf(host),
    tier: threads > 1 ? "T2" : "T1",
    missing,
  };
}

/** The best store to ask for: synchronous file handles exist in dedicated workers only. */
export function storageOf(host: HostKind): string {
  return host === "service-worker" ? "indexeddb" : "opfs-sync";
}

/**
 * Whether wasm SIMD compiles here: a module whose one function is `i32.const 0; i8x16.splat; drop`
 * (WebAssembly SIMD proposal, opcode 0xfd 0x0f).
 */
export function hasSimd(): boolean {
  const head = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0];
  const code = [10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11];
  return WebAssembly.validate(new Uint8Array([...head, ...code]));
}
