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

let ports: readonly MessagePort[] = [];

scope.onmessage = (event) => {
  scope.onmessage = null;
  ports = event.ports;
  const [port, page] = ports;
  if (port !== undefined && page !== undefined) void start(event.data, port, page);
};

async function start(
  { wasm, seed, known }: NetworkStart,
  port: MessagePort,
  page: MessagePort,
): Promise<void> {
  try {
    await init({ module_or_path: wasm });
    await start_network(seed, port, page, [...known]);
    end();
  } catch (error) {
    end();
    throw error;
  }
}

/** Tells the node and the window, by an empty message: not every browser says that a port is closed. */
function end(): void {
  for (const port of ports) {
    port.postMessage(new ArrayBuffer(0));
    port.close();
  }
  scope.close();
}

// After a trap the wasm instance is in an unknown state.
scope.addEventListener("error", end);
scope.addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof WebAssembly.RuntimeError) end();
});
