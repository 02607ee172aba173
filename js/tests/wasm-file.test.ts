import { afterEach, expect, test, vi } from "vitest";
import { fetchOrKept } from "../src/worker/wasm-file.js";

const url = "https://cdn.example/assets/simd-abc.wasm";
const kept = new Response("kept");

afterEach(() => vi.unstubAllGlobals());

/** A network that answers or throws, and what is kept of the file. */
function world(network: Response | Error, ours?: Response | Error): void {
  const answer = (of: Response | Error | undefined) =>
    of instanceof Error ? Promise.reject(of) : Promise.resolve(of);
  vi.stubGlobal("fetch", () => answer(network));
  vi.stubGlobal("caches", { match: () => answer(ours) });
}

test("the network comes first, because the browser keeps compiled code only there", async () => {
  const fetched = new Response("fetched");
  world(fetched, kept);
  expect(await fetchOrKept(url)).toBe(fetched);
});

test("without the network, or after the file has gone, the kept one is used", async () => {
  world(new TypeError("offline"), kept);
  expect(await fetchOrKept(url)).toBe(kept);
  world(new Response("", { status: 404 }), kept);
  expect(await fetchOrKept(url)).toBe(kept);
});

test("with neither, what the network said is the answer", async () => {
  const gone = new Response("", { status: 404 });
  world(gone);
  expect(await fetchOrKept(url)).toBe(gone);
  world(new TypeError("offline"));
  await expect(fetchOrKept(url)).rejects.toThrow("offline");
  // Storage that is blocked throws.
  world(new TypeError("offline"), new DOMException("blocked", "SecurityError"));
  await expect(fetchOrKept(url)).rejects.toThrow("offline");
  vi.stubGlobal("caches", undefined);
  await expect(fetchOrKept(url)).rejects.toThrow("offline");
});
