/** Finds a host for the bridge (our frame, or the page where that is blocked) and keeps the control channel to it. */
import { errorFromBody, type KwaaiNetError } from "../protocol/errors.js";
import type { Purpose } from "../protocol/types.js";
import { type ControlPort, type FromFrame, readFromFrame, type ToFrame } from "./control.js";
import { type BridgeHost, blockedError, type FrameHandlers, openFrame } from "./frame.js";
import { applyLayout } from "./layout.js";
import { openPage } from "./page.js";
import type { SiteOptions } from "./site-options.js";

export interface ConnectionHandlers {
  /** The bridge is there: for the first time, or again after the site moved or removed its frame. */
  onReady(purposes: readonly Purpose[]): void;
  onConsent(purposes: readonly Purpose[]): void;
  /** Every data port is dead and has to be made anew. */
  onReconnect(): void;
  /** The bridge is gone; `open` makes another one. */
  onLost(): void;
  onFault(error: KwaaiNetError): void;
}

/** How long a loaded frame may be silent before it counts as blocked. */
const ANSWER_MS = 3_000;
/** How long a frame may take to load. */
const LOAD_MS = 30_000;

export class Connection {
  readonly #base: URL;
  readonly #options: SiteOptions;
  readonly #handlers: ConnectionHandlers;
  #host: BridgeHost | null = null;
  #control: ControlPort | null = null;
  #opening: Promise<void> | null = null;

  constructor(base: URL, options: SiteOptions, handlers: ConnectionHandlers) {
    this.#base = base;
    this.#options = options;
    this.#handlers = handlers;
  }

  /** Resolves when the bridge has answered. */
  open(): Promise<void> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  send(message: ToFrame, transfer?: Transferable[]): void {
    this.#control?.postMessage(message, transfer);
  }

  async #open(): Promise<void> {
    // A page host is asked for by name only where frames cannot be had, such as in tests of it.
    if (this.#options.host !== "page" && (await this.#openFrame())) return;
    try {
      await new Promise<void>((resolve, reject) => {
        const onControl = (control: ControlPort, nonce: string) => this.#greet(control, nonce, resolve);
        openPage(this.#base, { onControl }).then((host) => {
          this.#host = host;
        }, reject);
      });
    } catch (cause) {
      throw blockedError(this.#base, cause);
    }
  }

  /** Whether the frame answered in time. */
  #openFrame(): Promise<boolean> {
    return new Promise((resolve) => {
      const give = (up: boolean) => {
        clearTimeout(timer);
        removeEventListener("securitypolicyviolation", onViolation);
        if (up) host.close();
        resolve(!up);
      };
      let timer = setTimeout(give, LOAD_MS, true);
      const onViolation = (event: SecurityPolicyViolationEvent) => {
        const { disposition, effectiveDirective, blockedURI } = event;
        const framing = effectiveDirective === "frame-src" || effectiveDirective === "child-src";
        if (disposition === "enforce" && framing && blockedURI.startsWith(this.#base.origin)) give(true);
      };
      addEventListener("securitypolicyviolation", onViolation);
      const handlers: FrameHandlers = {
        onControl: (control, nonce) => {
          clearTimeout(timer);
          timer = setTimeout(give, ANSWER_MS, true);
          this.#greet(control, nonce, () => give(false));
        },
        onRemoved: () => {
          give(true);
          this.#lost();
        },
      };
      const host = openFrame(this.#base, handlers);
      this.#host = host;
    });
  }

  #greet(control: ControlPort, nonce: string, ready: () => void): void {
    this.#control = control;
    control.onmessage = (event) => {
      const message = readFromFrame(event.data);
      if (message === null || this.#control !== control) return;
      if (message.type === "ready") {
        if (message.nonce !== nonce) return;
        ready();
        this.#handlers.onReady(message.purposes);
      } else this.#receive(message);
    };
    const { lang } = document.documentElement;
    control.postMessage({ type: "init", options: this.#options, locales: lang ? [lang] : [] });
  }

  #receive(message: Exclude<FromFrame, { type: "ready" }>): void {
    switch (message.type) {
      case "layout":
        if (this.#host !== null) applyLayout(this.#host.element, message);
        return;
      case "consent":
        this.#handlers.onConsent(message.purposes);
        return;
      case "reconnect":
        this.#handlers.onReconnect();
        return;
      default:
        this.#handlers.onFault(errorFromBody(message.error));
    }
  }

  #lost(): void {
    this.#host = null;
    this.#control = null;
    this.#opening = null;
    this.#handlers.onLost();
  }
}
