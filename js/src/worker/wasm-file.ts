/** Where the worker gets its wasm from. */

/**
 * Fetched, or what the service worker keeps where that fails. In this order although a fetch may take longer: only with
 * what it fetched itself does a browser keep the code that it compiled from it, and a start without that takes longer.
 */
export async function fetchOrKept(url: string): Promise<Response> {
  const fetched = await fetch(url).catch((error: unknown) => error);
  if (fetched instanceof Response && fetched.ok) return fetched;
  const kept = await globalThis.caches?.match(url).catch(() => undefined);
  if (kept !== undefined) return kept;
  if (fetched instanceof Response) return fetched;
  throw fetched;
}
