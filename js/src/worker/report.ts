/** What this context offers, and for each missing rung of the ladder what happens instead. */

import type { HostKind } from "../host/site-options.js";
import type { HostReport, Missing } from "../protocol/types.js";

export interface Probes {
  readonly host: HostKind;
  readonly processors: number;
  readonly isolated: boolean;
  /** The deployment has a build with threads. */
  readonly threadsBuilt: boolean;
  /** The build with threads uses relaxed SIMD. */
  readonly relaxedSimd: boolean;
  /** There was no room for the memory that threads share, which is reserved as a whole. */
  readonly noSharedMemory?: boolean;
  readonly webLocks: boolean;
  /** What the window found. */
  readonly missing: readonly Missing[];
}

/** More threads than this compete for memory bandwidth and for the site's own work. */
const MOST_THREADS = 8;

/**
 * Whether the build with threads runs here. It is the faster one on a single processor too. A service worker may be isolated,
 * but has no workers to share memory with.
 */
export function runsThreadsBuild(probes: Probes): boolean {
  const { host, isolated, threadsBuilt, relaxedSimd, noSharedMemory } = probes;
  return isolated && threadsBuilt && relaxedSimd && noSharedMemory !== true && host !== "service-worker";
}

/** Threads worth asking for. */
export function threadsOf(probes: Probes): number {
  return runsThreadsBuild(probes) ? Math.max(1, Math.min(probes.processors, MOST_THREADS)) : 1;
}

/** The host's part of the report. Storage, threads and tier are what is asked for; the node corrects them. */
export function makeReport(probes: Probes): HostReport {
  const { host, processors, isolated, threadsBuilt, relaxedSimd, noSharedMemory, webLocks } = probes;
  const threads = threadsOf(probes);
  const missing: Missing[] = [...probes.missing];
  const lacks = (what: string, instead: string) => missing.push({ what, instead });
  if (host === "service-worker") lacks("workers", "one thread computes, in short slices");
  else if (!isolated) lacks("crossOriginIsolated", "one thread computes");
  else if (!threadsBuilt) lacks("build with threads", "one thread computes");
  else if (!relaxedSimd) lacks("relaxed SIMD", "one thread computes");
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

/** Whether wasm SIMD compiles here: `i32.const 0; i8x16.splat; drop` (SIMD proposal, opcode 0xfd 0x0f). */
export function hasSimd(): boolean {
  return compiles([65, 0, 253, 15, 26]);
}

/**
 * Whether relaxed SIMD does: `i16x8.relaxed_dot_i8x16_i7x16_s` of two of these (Relaxed SIMD proposal, opcode
 * 0xfd 0x112).
 */
export function hasRelaxedSimd(): boolean {
  return compiles([65, 0, 253, 15, 65, 0, 253, 15, 253, 146, 2, 26]);
}

/** Whether a module whose only function has these instructions does. */
function compiles(instructions: readonly number[]): boolean {
  const head = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0];
  const body = [0, ...instructions, 11];
  return WebAssembly.validate(new Uint8Array([...head, 10, body.length + 2, 1, body.length, ...body]));
}
