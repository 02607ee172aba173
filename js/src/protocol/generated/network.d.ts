/* tslint:disable */
/* eslint-disable */

/**
 * Reports panics before the trap. Runs once, when the module starts.
 */
export function report_panics(): void;

/**
 * Joins with the key that grows from these 32 bytes, serves the port, and returns when its other end is gone.
 *
 * The window serves the port `page`: it makes WebRTC connections, which no worker can.
 *
 * The peers at the known addresses are the only ones that learn where this visitor is, and the only relays that are used.
 *
 * # Errors
 * A sentence, where the seed is none or this is no worker.
 */
export function start_network(seed: Uint8Array | number[], port: MessagePort, page: MessagePort, known: string[]): Promise<void>;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly memory: WebAssembly.Memory;
}

export type SyncInitInput = BufferSource | WebAssembly.Module;

/**
 * Instantiates the given `module`, which can either be bytes or
 * a precompiled `WebAssembly.Module`.
 *
 * @param {{ module: SyncInitInput }} module - Passing `SyncInitInput` directly is deprecated.
 *
 * @returns {InitOutput}
 */
export function initSync(module: { module: SyncInitInput } | SyncInitInput): InitOutput;

/**
 * If `module_or_path` is {RequestInfo} or {URL}, makes a request and
 * for everything else, calls `WebAssembly.instantiate` directly.
 *
 * @param {{ module_or_path: InitInput | Promise<InitInput> }} module_or_path - Passing `InitInput` directly is deprecated.
 *
 * @returns {Promise<InitOutput>}
 */
export default function __wbg_init (module_or_path: { module_or_path: InitInput | Promise<InitInput> } | InitInput | Promise<InitInput>): Promise<InitOutput>;
