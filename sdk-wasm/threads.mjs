/**
 * The build with threads, as one module that is both: what the node's worker imports, and (by its own URL) the
 * script of each pool thread. It is only used in cross-origin isolated pages.
 */
import init, { initSync, run_pool_thread, start_node as start } from "./pkg/threads/kwaainet.js";

export * from "./pkg/threads/kwaainet.js";
export default init;

/** As `start_node`, with the script of the pool's threads filled in. */
export function start_node(options, ...more) {
  return start({ ...options, poolUrl: import.meta.url }, ...more);
}

if (globalThis.name === "kwaainet-pool") {
  globalThis.onmessage = ({ data: [module, memory] }) => {
    globalThis.onmessage = null;
    initSync({ module, memory });
    globalThis.postMessage("ready");
    // Waits for work in the shared memory and never comes back to the event loop.
    run_pool_thread();
  };
}
