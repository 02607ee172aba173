/** The loader's hold on the bridge page: one frame of our origin, and the control channel to it. */
import { KwaaiNetError } from "../protocol/errors.js";
import type { ControlPort, Handshake } from "./control.js";
import { applyLayout } from "./layout.js";

/** What may carry the bridge: the frame, or the site's page. */
export interface BridgeHost {
  /** What the bridge draws in; its size follows `layout` messages. */
  readonly element: HTMLElement;
  close(): void;
}

export interface FrameHandlers {
  /** A fresh bridge is there and waits for `init` on this port: at first, and after the frame was loaded again. */
  onControl(control: ControlPort, nonce: string): void;
  /** The site took the frame out of its page. */
  onRemoved(): void;
}

/** What our origin may use inside the frame. All are off in a cross-origin frame unless named. */
const ALLOW = ["cross-origin-isolated", "compute-pressure", "storage-access"];

export function openFrame(base: URL, handlers: FrameHandlers): BridgeHost {
  const nonce = crypto.randomUUID();
  const frame = document.createElement("iframe");
  frame.title = "KwaaiNet";
  frame.allow = ALLOW.map((feature) => `${feature} ${base.origin}`).join("; ");
  applyLayout(frame, { mode: "hidden", width: 0, height: 0 });
  frame.src = new URL(`frame.html#${nonce}`, base).href;
  let control: MessagePort | null = null;
  // Every load, not only the first: a page that moves the frame makes it load again.
  frame.onload = () => {
    control?.close();
    const channel = new MessageChannel();
    control = channel.port1;
    const handshake: Handshake = { kwaainet: 1, nonce };
    frame.contentWindow?.postMessage(handshake, base.origin, [channel.port2]);
    handlers.onControl(control as ControlPort, nonce);
  };
  // The root element is where single-page applications leave it alone.
  const root = document.documentElement;
  const observer = new MutationObserver(() => {
    if (frame.isConnected) return;
    close();
    handlers.onRemoved();
  });
  function close(): void {
    observer.disconnect();
    frame.onload = null;
    control?.close();
    frame.remove();
  }
  root.append(frame);
  observer.observe(root, { childList: true });
  return { element: frame, close };
}

export function blockedError(base: URL, cause?: unknown): KwaaiNetError {
  const message =
    `${base.href}frame.html did not answer, and the node could not be started in the page instead: ` +
    `check that it is served, and that the site's Content-Security-Policy has script-src and frame-src ${base.origin}.`;
  return new KwaaiNetError("hostBlocked", message, { cause });
}
