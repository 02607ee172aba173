/** Loads the wasm that fits this context and starts the node in it. */

import type { Deployment } from "../host/deployment.js";
import type { RunningNode } from "../host/node-host.js";
import { makeWorker } from "../host/own-worker.js";
import type { HostKind } from "../host/site-options.js";
import type { NetworkStart } from "../host/worker-messages.js";
import { KwaaiNetError, messageOf } from "../protocol/errors.js";
import * as simd from "../protocol/generated/kwaainet.js";
import { asPort } from "../protocol/port.js";
import type { Missing } from "../protocol/types.js";
import {
  hasRelaxedSimd,
  hasSimd,
  makeReport,
  type Probes,
  runsThreadsBuild,
  storageOf,
  threadsOf,
} from "./report.js";

type Glue = typeof simd;
type NetworkStarter = NonNullable<Parameters<Glue["start_node"]>[1]>;

export interface NodeStart {
  readonly host: HostKind;
  readonly deployment: Deployment;
  readonly missing: readonly Missing[];
  readonly webLocks: boolean;
  /** Where the wasm comes from, if not simply from the network. */
  readonly fetchWasm?: (url: string) => Promise<Response>;
  /** Hands a port to the window, which makes WebRTC connections for whoever has the other end. */
  readonly peerConnections?: (port: MessagePort) => void;
}

export async function startNode({
  host,
  deployment,
  missing,
  webLocks,
  fetchWasm,
  peerConnections,
}: NodeStart): Promise<RunningNode> {
  if (!hasSimd()) {
    const message = "This browser has no WebAssembly SIMD, which every model needs: update the browser.";
    throw new KwaaiNetError("unsupported", message);
  }
  const { catalogueUrl, catalogueKey, assets } = deployment;
  const probes: Probes = {
    host,
    missing,
    // Shared memory can be made without isolation, but not be shared: isolation is what counts.
    isolated: globalThis.crossOriginIsolated === true,
    threadsBuilt: assets.wasmThreads !== undefined && assets.glueThreads !== undefined,
    relaxedSimd: hasRelaxedSimd(),
    processors: navigator.hardwareConcurrency || 1,
    webLocks,
  };
  const { glue, found } = await load(probes, assets, fetchWasm);
  const node = await glue.start_node(
    {
      hostReport: makeReport(found),
      deployment: { catalogueUrl, catalogueKey },
      storage: storageOf(host),
      threads: threadsOf(found),
      // The script with the threads knows its own address.
      poolUrl: undefined,
    },
    networkOf(assets, peerConnections),
  );
  return {
    epoch: node.epoch,
    port(origin) {
      const { port1, port2 } = new MessageChannel();
      node.attach(port1, origin);
      return asPort(port2);
    },
  };
}

/** Starts libp2p in a worker of its own; nothing of it is fetched before that. A service worker has no workers. */
function networkOf(
  { network, wasmNetwork }: Deployment["assets"],
  peerConnections: NodeStart["peerConnections"],
): NetworkStarter | undefined {
  if (typeof Worker === "undefined") return undefined;
  return (seed, known) => {
    const { port1, port2 } = new MessageChannel();
    const worker = makeWorker(network, new URL(network).origin !== location.origin);
    // Its end closes the port, which is how the node learns of it.
    worker.onerror = () => worker.terminate();
    const start: NetworkStart = { wasm: wasmNetwork, seed, known };
    const page = new MessageChannel();
    worker.postMessage(start, [port2, page.port2]);
    // Without a window nobody answers, and only WebSocket is left.
    if (peerConnections === undefined) page.port1.close();
    else peerConnections(page.port1);
    return { port: port1, end: () => worker.terminate() };
  };
}

/** The best build that starts here, and the probes with what was found out on the way. */
async function load(
  probes: Probes,
  assets: Deployment["assets"],
  fetchWasm?: NodeStart["fetchWasm"],
): Promise<{ glue: Glue; found: Probes }> {
  const { glue, url } = await chooseBuild(assets, runsThreadsBuild(probes));
  try {
    await glue.default({ module_or_path: fetchWasm?.(url) ?? url });
    return { glue, found: probes };
  } catch (cause) {
    // What `new WebAssembly.Memory` throws where the addresses cannot be had: small devices, many tabs.
    if (glue !== simd && cause instanceof RangeError) {
      return load({ ...probes, noSharedMemory: true }, assets, fetchWasm);
    }
    const file = new URL(url).pathname;
    const message = `The node could not be loaded (${messageOf(cause)}): check that ${file} is served.`;
    throw new KwaaiNetError("networkUnreachable", message, { cause, retryable: true });
  }
}

async function chooseBuild(
  { wasmSimd, wasmThreads, glueThreads }: Deployment["assets"],
  withThreads: boolean,
): Promise<{ glue: Glue; url: string }> {
  if (!withThreads || wasmThreads === undefined || glueThreads === undefined)
    return { glue: simd, url: wasmSimd };
  // Its own file: most visitors of other browsers never need it.
  return { glue: await import(glueThreads), url: wasmThreads };
}
