/** Our own files, kept so that the next visit starts without the network. Models are the node's business. */
import { CACHE_PREFIX } from "../host/service-worker-messages.js";

const NAME = `${CACHE_PREFIX}1`;

/** Whether a request is for a file of ours: the frame, or something immutable beside it. */
export function isShell(url: URL, folder: string): boolean {
  if (url.origin !== new URL(folder).origin || !url.href.startsWith(folder)) return false;
  return /^(frame\.html|assets\/[^/]+)$/.test(url.href.slice(folder.length).replace(/[?#].*$/, ""));
}

/** Immutable files from the cache; the frame from the network as long as there is one. */
export async function shell(request: Request): Promise<Response> {
  const cache = await caches.open(NAME);
  if (!request.url.includes("/frame.html")) {
    return (await cache.match(request, { ignoreVary: true })) ?? fetch(request);
  }
  const key = request.url.replace(/[?#].*$/, "");
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(key, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(key);
    if (kept === undefined) throw error;
    return kept;
  }
}

/** Keeps these files, and no others of an earlier version. */
export async function keepShell(urls: readonly string[]): Promise<void> {
  const cache = await caches.open(NAME);
  for (const request of await cache.keys()) {
    if (!urls.includes(request.url) && !request.url.endsWith("/frame.html")) await cache.delete(request);
  }
  for (const url of urls) {
    if ((await cache.match(url)) === undefined) await cache.add(url);
  }
}

export async function fromShell(url: string): Promise<Response> {
  return (await caches.match(url)) ?? fetch(url);
}
