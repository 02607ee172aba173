/** Entry of the network's worker: libp2p, for the node at the other end of the port. */
import type { NetworkStart } from "../host/worker-messages.js";
import init, { start_network } from "../protocol/generated/network.js";

/** The part of DedicatedWorkerGlobalScope that is used; the DOM library types only windows. */
interface Scope {
  onmessage: ((event: MessageEvent<NetworkStart>) => void) | null;
  close(): void;
  addEventListener(type: "error", listener: () => void): void;
  addEventListener(type: "unhandledrejection", listener: (event: PromiseRejectionEvent) => void): void;
}

const scope = globalThis as unknown as Scope;

scope.onmessage = (event) => {
  scope.onmessage = null;
  const [port, page] = event.ports;
  if (port !== undefined && page !== undefined) void start(event.data, port, page);
};

async function start({ wasm, seed, known }: NetworkStart, port: MessagePort, page: MessagePort): Promise<void> {
  try {
    await init({ module_or_path: wasm });
    await start_network(seed, port, page, [...known]);
    scope.close();
  } catch (error) {
    // Closing tells the node that there is no network.
    port.close();
    throw error;
  }
}

// After a trap the wasm instance is in an unknown state. Ending here closes the port, and the node is told.
scope.addEventListener("error", () => scope.close());
scope.addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof WebAssembly.RuntimeError) scope.close();
});
