/**
 * The control channel between the loader on the site's page and the bridge page on our origin: one window
 * message with a port, then messages on that port. Prompts and answers never travel here.
 */
import type { ErrorBody, Purpose } from "../protocol/types.js";
import { isObject, readSiteOptions, type SiteOptions } from "./site-options.js";

/** The loader's only window message, sent with the control port to the frame's exact origin. */
export interface Handshake {
  readonly kwaainet: 1;
  readonly nonce: string;
}

/** How much of the site's viewport the frame covers, in CSS pixels. */
export type LayoutMode = "hidden" | "panel" | "assistant" | "pill";

export interface LayoutRequest {
  readonly mode: LayoutMode;
  readonly width: number;
  readonly height: number;
}

export type ToFrame =
  | { readonly type: "init"; readonly options: SiteOptions; readonly locales: readonly string[] }
  /** With a data port. */
  | { readonly type: "connect" }
  | { readonly type: "ask" }
  | { readonly type: "assistant"; readonly open: boolean };

export type FromFrame =
  /** At once; the nonce proves that it was this frame that was spoken to. */
  | { readonly type: "here"; readonly nonce: string }
  /** The answer to `init`, when it is known what the visitor agreed to. */
  | { readonly type: "ready"; readonly purposes: readonly Purpose[] }
  | ({ readonly type: "layout" } & LayoutRequest)
  /** What the visitor decided, or what is left of it; never more than that. */
  | { readonly type: "consent"; readonly purposes: readonly Purpose[] }
  /** The node died; a new one is on its way and wants a new data port. */
  | { readonly type: "reconnect" }
  | { readonly type: "fault"; readonly error: ErrorBody };

export interface ControlPort {
  postMessage(message: FromFrame | ToFrame, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<unknown>) => void) | null;
  close(): void;
}

export function readHandshake(data: unknown): Handshake | null {
  if (!isObject(data)) return null;
  const { kwaainet, nonce } = data;
  return kwaainet === 1 && typeof nonce === "string" ? { kwaainet, nonce } : null;
}

/** Reads what a site's page sent; the page may be hostile. */
export function readToFrame(data: unknown): ToFrame | null {
  if (!isObject(data)) return null;
  const { type, options, locales, open } = data;
  switch (type) {
    case "init":
      return { type, options: readSiteOptions(options), locales: readLocales(locales) };
    case "connect":
    case "ask":
      return { type };
    case "assistant":
      return { type, open: open === true };
    default:
      return null;
  }
}

const layoutModes: readonly LayoutMode[] = ["hidden", "panel", "assistant", "pill"];

/** Reads what the frame sent. */
export function readFromFrame(data: unknown): FromFrame | null {
  if (!isObject(data)) return null;
  const { type, nonce, purposes, error, width, height, mode: name } = data;
  switch (type) {
    case "here":
      return typeof nonce === "string" ? { type, nonce } : null;
    case "ready":
    case "consent":
      return { type, purposes: readPurposes(purposes) };
    case "layout": {
      const mode = layoutModes.find((known) => known === name);
      if (mode === undefined || !isLength(width) || !isLength(height)) return null;
      return { type, mode, width, height };
    }
    case "reconnect":
      return { type };
    case "fault":
      return isErrorBody(error) ? { type, error } : null;
    default:
      return null;
  }
}

function isErrorBody(data: unknown): data is ErrorBody {
  if (!isObject(data)) return false;
  const { code, message, retryable } = data;
  return typeof code === "string" && typeof message === "string" && typeof retryable === "boolean";
}

function readLocales(data: unknown): string[] {
  if (!Array.isArray(data)) return [];
  return data
    .filter((tag): tag is string => typeof tag === "string" && /^[A-Za-z0-9-]{2,35}$/.test(tag))
    .slice(0, 16);
}

function readPurposes(data: unknown): Purpose[] {
  return Array.isArray(data)
    ? data.filter((name): name is Purpose => typeof name === "string").slice(0, 32)
    : [];
}

function isLength(data: unknown): data is number {
  return typeof data === "number" && Number.isFinite(data) && data >= 0 && data <= 16_384;
}
