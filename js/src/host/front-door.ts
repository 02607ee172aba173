/**
 * The page's part in `/kwaainet/v1/...` on self-hosted sites: registers the site's own service worker, if there is one,
 * and keeps whichever answers alive while it streams to this page.
 */
import { KwaaiNetError } from "../protocol/errors.js";
import { readFromServiceWorker, type ToServiceWorker } from "./service-worker-messages.js";

/** Firefox and Chromium end a service worker after 30 s without events; ports and streams do not count there. */
const PING_MS = 10_000;

/** Call only with consent: a registration is storage. Returns what ends it. */
export function frontDoor(path: string | undefined, onFault: (error: KwaaiNetError) => void): () => void {
  let timer: ReturnType<typeof setInterval> | undefined;
  let registration: ServiceWorkerRegistration | null = null;
  const container: ServiceWorkerContainer | undefined = navigator.serviceWorker;
  const ping = () => container.controller?.postMessage({ type: "ping" } satisfies ToServiceWorker);
  const onMessage = (event: MessageEvent<unknown>) => {
    const message = readFromServiceWorker(event.data);
    if (message === null) return;
    clearInterval(timer);
    timer = message.open > 0 ? setInterval(ping, PING_MS) : undefined;
  };
  const failed = (cause?: unknown) => {
    const message = `The service worker ${path} could not be registered: check that it is served as JavaScript from this site.`;
    onFault(new KwaaiNetError("hostBlocked", message, { cause }));
  };
  container?.addEventListener("message", onMessage);
  container?.startMessages();
  if (path !== undefined) {
    if (container === undefined) failed();
    else {
      container.register(path).then((registered) => {
        registration = registered;
      }, failed);
    }
  }
  return () => {
    clearInterval(timer);
    container?.removeEventListener("message", onMessage);
    void registration?.unregister();
  };
}
