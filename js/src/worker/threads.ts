/**
 * Entry of the build with threads: its JavaScript, and the script of its pool threads. The node's worker imports it;
 * the pool's workers are started with it, which they can tell by their name (sdk-wasm/src/threads.rs).
 */
import * as glue from "../protocol/generated/kwaainet.js";

// The bundle of this entry takes the JavaScript of the build with threads.
export * from "../protocol/generated/kwaainet.js";
export { default } from "../protocol/generated/kwaainet.js";

/** What only that build has; the generated types are those of the other one. */
interface PoolGlue {
  default(options: { module_or_path: WebAssembly.Module; memory: WebAssembly.Memory }): Promise<unknown>;
  run_pool_thread(): void;
}

/** The part of DedicatedWorkerGlobalScope that is used. */
interface Scope {
  readonly name: string;
  onmessage: ((event: MessageEvent<readonly [WebAssembly.Module, WebAssembly.Memory]>) => void) | null;
  postMessage(message: null): void;
}

const POOL_NAME = "kwaainet-pool";

const scope = globalThis as unknown as Scope;
if (scope.name === POOL_NAME) {
  const pool = glue as unknown as PoolGlue;
  scope.onmessage = async (event) => {
    const [module_or_path, memory] = event.data;
    await pool.default({ module_or_path, memory });
    // Any message says that it is ready; after that this thread blocks until the pool is closed.
    scope.postMessage(null);
    pool.run_pool_thread();
  };
}
