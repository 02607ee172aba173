/** Entry of the dedicated worker: runs the node when its turn comes, and until then passes ports on to who does. */
import { BUS_NAME, holdAlive } from "../host/channel-port.js";
import { usableLocks } from "../host/locks.js";
import { NodeHost } from "../host/node-host.js";
import type { FromWorker, ToWorker, WorkerStart } from "../host/worker-messages.js";
import { errorToBody } from "../protocol/errors.js";
import { asPort } from "../protocol/port.js";
import type { Missing } from "../protocol/types.js";
import { startNode } from "./node.js";

/** The part of DedicatedWorkerGlobalScope that is used; the DOM library types only windows. */
interface Scope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  close(): void;
  addEventListener(type: "error", listener: (event: ErrorEvent) => void): void;
  addEventListener(type: "unhandledrejection", listener: (event: PromiseRejectionEvent) => void): void;
}

const scope = globalThis as unknown as Scope;
/** A service worker is killed after 30 s without events (measured in Chromium and Firefox). */
const KEEP_ALIVE_MS = 10_000;

let host: Promise<NodeHost> | null = null;

scope.onmessage = (event) => {
  const message = event.data;
  const [port] = event.ports;
  if (message.type === "start") {
    host ??= start(message);
    host.catch((error: unknown) => scope.postMessage({ type: "fault", error: errorToBody(error) }));
  } else if (port !== undefined) {
    void host?.then((running) => running.attach(asPort(port), message.origin));
  }
};

// After a trap the wasm instance is in an unknown state. Ending here releases the locks, and others go on.
scope.addEventListener("error", (event) => endAfterTrap(event.error));
scope.addEventListener("unhandledrejection", (event) => endAfterTrap(event.reason));

function endAfterTrap(error: unknown): void {
  if (error instanceof WebAssembly.RuntimeError) scope.close();
}

async function start(message: WorkerStart): Promise<NodeHost> {
  const { id, deployment } = message;
  const locks = await usableLocks();
  const missing: Missing[] = [...message.missing];
  // The node lives in the service worker then: this worker passes ports on, and has it woken when it is needed.
  const elsewhere = message.host === "service-worker";
  await holdAlive(id, locks);
  scope.postMessage({ type: "alive" });
  const running = new NodeHost(
    id,
    new BroadcastChannel(BUS_NAME),
    locks,
    () =>
      startNode({
        host: message.host,
        deployment,
        missing,
        webLocks: locks !== undefined,
        peerConnections: (port) => scope.postMessage({ type: "peerConnections" }, [port]),
      }),
    {
      onFault: (error) => scope.postMessage({ type: "fault", error }),
      ...(elsewhere ? { onLost: tick, onWanted: tick } : {}),
    },
  );
  if (elsewhere) setInterval(() => running.inFlight > 0 && tick(), KEEP_ALIVE_MS);
  else void running.elect();
  return running;
}

/** Only the window can reach the service worker. */
function tick(): void {
  scope.postMessage({ type: "tick" });
}
