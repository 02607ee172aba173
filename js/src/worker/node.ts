/** Loads the wasm that fits this context and starts the node in it. */

import type { Deployment } from "../host/deployment.js";
import type { RunningNode } from "../host/node-host.js";
import type { HostKind } from "../host/site-options.js";
import { KwaaiNetError, messageOf } from "../protocol/errors.js";
import * as simd from "../protocol/generated/kwaainet.js";
import { asPort } from "../protocol/port.js";
import type { Missing } from "../protocol/types.js";
import { hasSimd, makeReport, probeStorage, threadsOf } from "./report.js";

type Glue = typeof simd;

export interface NodeStart {
  readonly host: HostKind;
  readonly deployment: Deployment;
  readonly missing: readonly Missing[];
  /** Where the wasm comes from, if not simply from the network. */
  readonly fetchWasm?: (url: string) => Promise<Response>;
}

export async function startNode({ host, deployment, missing, fetchWasm }: NodeStart): Promise<RunningNode> {
  if (!hasSimd()) {
    const message = "This browser has no WebAssembly SIMD, which every model needs: update the browser.";
    throw new KwaaiNetError("unsupported", message);
  }
  const { wasmSimd, wasmThreads, glueThreads } = deployment.assets;
  // Shared memory can be made without isolation, but not be shared: isolation is what counts. A service worker
  // may be isolated, but has no threads to share with.
  const isolated = globalThis.crossOriginIsolated === true && host !== "service-worker";
  const threadsBuilt = wasmThreads !== undefined && glueThreads !== undefined;
  const processors = navigator.hardwareConcurrency || 1;
  const storage = await probeStorage();
  const webLocks = "locks" in navigator;
  const hostReport = makeReport({ host, processors, isolated, threadsBuilt, storage, webLocks, missing });
  const threads = threadsOf({ isolated, threadsBuilt, processors });
  const glue: Glue = threads > 1 && glueThreads !== undefined ? await import(glueThreads) : simd;
  const url = threads > 1 && wasmThreads !== undefined ? wasmThreads : wasmSimd;
  try {
    await glue.default({ module_or_path: fetchWasm?.(url) ?? url });
  } catch (cause) {
    const message = `The node could not be loaded (${messageOf(cause)}): check that ${new URL(url).pathname} is served.`;
    throw new KwaaiNetError("networkUnreachable", message, { cause, retryable: true });
  }
  const { catalogueUrl, catalogueKey } = deployment;
  const node = await glue.start_node({
    hostReport,
    deployment: { catalogueUrl, catalogueKey },
    storage,
    threads,
  });
  return {
    epoch: node.epoch,
    port(origin) {
      const { port1, port2 } = new MessageChannel();
      node.attach(port1, origin);
      return asPort(port2);
    },
  };
}
