/** The bridge's hold on the service worker of our origin. Used only after consent: a registration is storage. */
import type { Deployment } from "../host/deployment.js";
import type { ToServiceWorker } from "../host/service-worker-messages.js";
import { CACHE_PREFIX, SHELL } from "../host/service-worker-messages.js";
import { KwaaiNetError } from "../protocol/errors.js";

export class ServiceWorkerHost {
  readonly #deployment: Deployment;
  readonly #hostsNode: boolean;
  #registration: ServiceWorkerRegistration | null = null;

  constructor(deployment: Deployment, hostsNode: boolean) {
    this.#deployment = deployment;
    this.#hostsNode = hostsNode;
  }

  async start(): Promise<void> {
    const url = this.#deployment.assets.serviceWorker;
    if (url === undefined || !("serviceWorker" in navigator)) {
      throw new KwaaiNetError(
        "hostBlocked",
        "This deployment or browser has no service worker: use the worker host.",
      );
    }
    try {
      this.#registration = await navigator.serviceWorker.register(`${url}?${SHELL}`);
    } catch (cause) {
      const message = "The service worker could not be registered: use the worker host.";
      throw new KwaaiNetError("hostBlocked", message, { cause });
    }
    await active(this.#registration);
    const { frame, panel, assistant, worker, wasmSimd, wasmThreads, glueThreads } = this.#deployment.assets;
    // Only the build that runs here: the other one is half a megabyte that nobody asked for.
    const threads = !this.#hostsNode && globalThis.crossOriginIsolated && glueThreads !== undefined;
    const node = threads ? [wasmThreads, glueThreads] : [wasmSimd];
    const urls = [frame, panel, assistant, worker, ...node];
    this.#post({ type: "shell", urls: urls.filter((asset) => asset !== undefined) });
    this.ping();
  }

  /** Keeps it alive, and wakes a node that it hosts. Message events count as activity; ports do not. */
  ping(): void {
    this.#post(this.#hostsNode ? { type: "host", deployment: this.#deployment } : { type: "ping" });
  }

  async remove(): Promise<void> {
    const names = await caches.keys().catch(() => []);
    await Promise.all(
      names.filter((name) => name.startsWith(CACHE_PREFIX)).map((name) => caches.delete(name)),
    );
    await this.#registration?.unregister();
  }

  #post(message: ToServiceWorker): void {
    this.#registration?.active?.postMessage(message);
  }
}

function active(registration: ServiceWorkerRegistration): Promise<void> {
  const worker = registration.active ?? registration.waiting ?? registration.installing;
  if (worker === null || worker.state === "activated") return Promise.resolve();
  return new Promise((resolve) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated" || worker.state === "redundant") resolve();
    });
  });
}
