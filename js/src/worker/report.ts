/** What this context offers, and for each missing rung of the ladder what happens instead. */

import type { HostKind } from "../host/site-options.js";
import type { HostReport, Missing } from "../protocol/types.js";

export type Storage = "opfs-sync" | "opfs" | "memory";

export interface Probes {
  readonly host: HostKind;
  readonly processors: number;
  readonly isolated: boolean;
  /** The deployment has a build with threads. */
  readonly threadsBuilt: boolean;
  readonly storage: Storage;
  readonly webLocks: boolean;
  /** What the window found. */
  readonly missing: readonly Missing[];
}

/** More threads than this compete for memory bandwidth and for the site's own work. */
const MOST_THREADS = 8;

export function threadsOf(probes: Pick<Probes, "isolated" | "threadsBuilt" | "processors">): number {
  if (!probes.isolated || !probes.threadsBuilt) return 1;
  return Math.max(1, Math.min(probes.processors, MOST_THREADS));
}

export function makeReport(probes: Probes): HostReport {
  const { host, processors, isolated, threadsBuilt, storage, webLocks } = probes;
  const threads = threadsOf(probes);
  const missing: Missing[] = [...probes.missing];
  const lacks = (what: string, instead: string) => missing.push({ what, instead });
  if (!isolated) lacks("crossOriginIsolated", "one thread computes");
  else if (!threadsBuilt) lacks("threads build", "one thread computes");
  lacks("webgpu", "the processor computes; this version has no GPU backend");
  if (storage === "opfs") {
    lacks("opfs sync handles", "models are kept through the slower asynchronous file API");
  } else if (storage === "memory") {
    lacks("storage", "models live in memory and are fetched again at the next visit");
  }
  if (!webLocks) lacks("webLocks", "every tab runs a node of its own");
  return {
    host,
    backend: threads > 1 ? `wasm simd128, ${threads} threads` : "wasm simd128",
    threads,
    processors,
    storage,
    tier: threads > 1 ? "T2" : "T1",
    missing,
  };
}

/** Asks the browser. Only after consent: a directory handle may make the browser set storage aside. */
export async function probeStorage(): Promise<Storage> {
  try {
    await navigator.storage.getDirectory();
  } catch {
    return "memory";
  }
  if (typeof FileSystemFileHandle === "undefined") return "memory";
  return "createSyncAccessHandle" in FileSystemFileHandle.prototype ? "opfs-sync" : "opfs";
}

/**
 * Whether wasm SIMD compiles here: a module whose one function is `i32.const 0; i8x16.splat; drop`
 * (WebAssembly SIMD proposal, opcode 0xfd 0x0f).
 */
export function hasSimd(): boolean {
  const code = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11,
  ];
  return WebAssembly.validate(new Uint8Array(code));
}
