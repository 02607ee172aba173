import { KwaaiNetError } from "../protocol/errors.js";
import type { ConsentRecord } from "../protocol/types.js";

/** The node's folder, and its database (sdk-wasm/src/platform/blob_store.rs). */
const DIRECTORY = "kwaainet";
const RECORD = "consent.json";

/**
 * The consent record that the node kept, if it still holds. Creates nothing: a missing directory is an error
 * that means no.
 */
export async function readRecord(now: number): Promise<ConsentRecord | null> {
  try {
    const root = await navigator.storage.getDirectory();
    const directory = await root.getDirectoryHandle(DIRECTORY);
    const file = await (await directory.getFileHandle(RECORD)).getFile();
    const record: unknown = JSON.parse(await file.text());
    return isRecord(record) && record.expiresAtMs > now ? record : null;
  } catch {
    return null;
  }
}

/** Deletes what is left of the node's storage after the node is gone. */
export async function clearStorage(): Promise<void> {
  globalThis.indexedDB?.deleteDatabase(DIRECTORY);
  const root = await navigator.storage?.getDirectory?.().catch(() => null);
  // A worker that was just ended, here or in another tab, lets go of its files a moment later.
  for (let tries = 0; tries < 20; tries += 1) {
    try {
      await root?.removeEntry(DIRECTORY, { recursive: true });
      return;
    } catch (error) {
      if (error instanceof DOMException && error.name === "NotFoundError") return;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const message =
    "Some files could not be deleted, because another tab of this site has them open: close it and try again.";
  throw new KwaaiNetError("storageInUse", message, { retryable: true });
}

// The node checks it in full; here it decides only whether the visitor is asked.
function isRecord(data: unknown): data is ConsentRecord {
  if (typeof data !== "object" || data === null) return false;
  const { purposes, expiresAtMs } = data as { purposes?: unknown; expiresAtMs?: unknown };
  return Array.isArray(purposes) && purposes.length > 0 && typeof expiresAtMs === "number";
}
