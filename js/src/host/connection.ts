/** Finds a host for the bridge (our frame, or the page where that is blocked) and keeps the control channel to it. */
import { errorFromBody, KwaaiNetError } from "../protocol/errors.js";
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

const shared = new Map<string, Connection>();

export class Connection {
  readonly #base: URL;
  readonly #options: SiteOptions;
  readonly #handlers = new Set<ConnectionHandlers>();
  #host: BridgeHost | null = null;
  #control: ControlPort | null = null;
  #opening: Promise<void> | null = null;
  /** What the bridge said last; `null` while there is none. */
  #purposes: readonly Purpose[] | null = null;

  private constructor(base: URL, options: SiteOptions) {
    this.#base = base;
    this.#options = options;
  }

  /**
   * The page's connection to this base. One frame serves all instances on a page, so that the visitor is asked
   * once; the first instance's options are those of the panel and the assistant.
   */
  static to(base: URL, options: SiteOptions): Connection {
    const key = `${options.host ?? ""} ${base.href}`;
    const connection = shared.get(key) ?? new Connection(base, options);
    shared.set(key, connection);
    return connection;
  }

  /** Resolves when the bridge has answered, and `handlers` were told what the visitor agreed to before. */
  async open(handlers: ConnectionHandlers): Promise<void> {
    const joined = this.#handlers.has(handlers);
    this.#handlers.add(handlers);
    if (!joined && this.#purposes !== null) handlers.onReady(this.#purposes);
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = null;
      throw error;
    });
    await this.#opening;
  }

  send(message: ToFrame, transfer?: Transferable[]): void {
    this.#control?.postMessage(message, transfer);
  }

  async #open(): Promise<void> {
    const { host } = this.#options;
    if (host !== "page") {
      const outcome = await this.#openFrame();
      if (outcome === "answered") return;
      if (outcome === "removed") {
        const message = "The site removed our frame before it had answered.";
        throw new KwaaiNetError("interrupted", message, { retryable: true });
      }
    }
    try {
      await new Promise<void>((resolve, reject) => {
        const onControl = (control: ControlPort, nonce: string) => {
          this.#greet(control, nonce, () => {}, resolve);
        };
        openPage(this.#base, { onControl }).then((opened) => {
          this.#host = opened;
        }, reject);
      });
    } catch (cause) {
      throw blockedError(this.#base, cause);
    }
  }

  #openFrame(): Promise<"answered" | "blocked" | "removed"> {
    return new Promise((resolve) => {
      const block = () => {
        stop();
        host.close();
        resolve("blocked");
      };
      const onViolation = (event: SecurityPolicyViolationEvent) => {
        const { disposition, effectiveDirective, blockedURI } = event;
        const framing = effectiveDirective === "frame-src" || effectiveDirective === "child-src";
        if (disposition === "enforce" && framing && blockedURI.startsWith(this.#base.origin)) block();
      };
      let timer: ReturnType<typeof setTimeout> | undefined = setTimeout(block, LOAD_MS);
      addEventListener("securitypolicyviolation", onViolation);
      const stop = () => {
        clearTimeout(timer);
        timer = undefined;
        removeEventListener("securitypolicyviolation", onViolation);
      };
      const handlers: FrameHandlers = {
        onControl: (control, nonce) => {
          if (timer !== undefined) {
            clearTimeout(timer);
            timer = setTimeout(block, ANSWER_MS);
          }
          this.#greet(control, nonce, stop, () => resolve("answered"));
        },
        onRemoved: () => {
          stop();
          resolve("removed");
          this.#lost();
        },
      };
      const host = openFrame(this.#base, handlers);
      this.#host = host;
    });
  }

  /** `here` is called at the bridge's first word, `ready` when it knows what the visitor agreed to. */
  #greet(control: ControlPort, nonce: string, here: () => void, ready: () => void): void {
    this.#control = control;
    control.onmessage = (event) => {
      const message = readFromFrame(event.data);
      if (message === null || this.#control !== control) return;
      if (message.type === "here") {
        if (message.nonce === nonce) here();
      } else if (message.type === "ready") {
        this.#purposes = message.purposes;
        ready();
        this.#tell((handlers) => handlers.onReady(message.purposes));
      } else this.#receive(message);
    };
    const { lang } = document.documentElement;
    control.postMessage({ type: "init", options: this.#options, locales: lang ? [lang] : [] });
  }

  #receive(message: Exclude<FromFrame, { type: "here" | "ready" }>): void {
    switch (message.type) {
      case "layout":
        if (this.#host !== null) applyLayout(this.#host.element, message);
        return;
      case "consent":
        this.#purposes = message.purposes;
        this.#tell((handlers) => handlers.onConsent(message.purposes));
        return;
      case "reconnect":
        this.#tell((handlers) => handlers.onReconnect());
        return;
      default: {
        const error = errorFromBody(message.error);
        this.#tell((handlers) => handlers.onFault(error));
      }
    }
  }

  #lost(): void {
    this.#host = null;
    this.#control = null;
    this.#opening = null;
    this.#purposes = null;
    this.#tell((handlers) => handlers.onLost());
  }

  #tell(what: (handlers: ConnectionHandlers) => void): void {
    for (const handlers of [...this.#handlers]) what(handlers);
  }
}
