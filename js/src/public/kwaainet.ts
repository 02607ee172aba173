import { Connection, type ConnectionHandlers } from "../host/connection.js";
import { frontDoor } from "../host/front-door.js";
import { configOf } from "../host/site-options.js";
import { NodeClient } from "../protocol/client.js";
import { KwaaiNetError } from "../protocol/errors.js";
import { type ModelList, toModelList } from "../protocol/openai.js";
import { asPort } from "../protocol/port.js";
import type {
  Capabilities,
  NetworkStatus,
  Event as NodeEvent,
  PeerStatus,
  Purpose,
} from "../protocol/types.js";
import { type Chat, Completions } from "./chat.js";
import { type ConsentStatus, Emitter, type KwaaiNetEvents } from "./events.js";
import { checkOptions, type KwaaiNetOptions } from "./options.js";

export interface Consent {
  /** Opens the panel, also to change or withdraw what was agreed to; resolves with what is in force then. */
  ask(): Promise<ConsentStatus>;
  /** What is in force, as far as this page knows. */
  status(): ConsentStatus;
}

export interface Assistant {
  open(): void;
  close(): void;
}

export interface Models {
  /** The models of the deployment and what of them is on this device. Needs consent. */
  list(): Promise<ModelList>;
}

/** Other visitors and peers, for those who agreed to help others. What the visitor writes is never sent there. */
export interface Network {
  /**
   * Joins, and resolves when somebody is connected. Visitors who agreed to help others join by themselves if the option
   * `bootstrap` names peers; `peers` are more of them.
   */
  join(peers?: readonly string[]): Promise<NetworkStatus>;
  /** Leaves, until `join` is called. */
  leave(): Promise<void>;
  status(): Promise<NetworkStatus>;
  /** Everybody who is connected, how, and how much was said. Where they are is not for sites to know. */
  peers(): Promise<readonly PeerStatus[]>;
}

/** A private AI on this page: the model runs on the visitor's device, after the visitor agreed. */
export class KwaaiNet {
  readonly chat: Chat;
  readonly models: Models;
  readonly consent: Consent;
  readonly assistant: Assistant;
  /** Its status changes with the event `network`. */
  readonly network: Network;
  readonly #connection: Connection;
  readonly #client: NodeClient;
  readonly #emitter = new Emitter();
  readonly #handlers: ConnectionHandlers = {
    onReady: (purposes) => this.#onReady(purposes),
    onConsent: (purposes) => this.#onConsent(purposes),
    onReconnect: () => this.#reconnect(),
    onLost: () => this.#onLost(),
    onFault: (error) => this.#onFault(error),
  };
  readonly #serviceWorker: string | undefined;
  readonly #selfHosted: boolean;
  #purposes: readonly Purpose[] = [];
  /** The visitor refused on this page: only `consent.ask()` asks again. */
  #refused = false;
  #deciding: PromiseWithResolvers<ConsentStatus>[] = [];
  #wasReady = false;
  #closeFrontDoor: (() => void) | null = null;

  constructor(options: KwaaiNetOptions = {}) {
    const { base, serviceWorker, site, problems } = checkOptions({ ...options });
    if (problems.length > 0) throw new KwaaiNetError("badRequest", `${problems.join(". ")}.`);
    if (base === undefined) {
      const message =
        "`base` is missing: give the URL of the folder on your server or CDN that holds frame.html.";
      throw new KwaaiNetError("badRequest", message);
    }
    // A folder's URL ends with a slash, or the last part of it would be replaced.
    const url = new URL(base.endsWith("/") ? base : `${base}/`, document.baseURI);
    this.#serviceWorker = serviceWorker;
    this.#selfHosted = url.origin === location.origin;
    // A site may lower what its visitor agreed to, never raise it; the node sees to that.
    const prelude = () => [{ type: "configure" as const, config: configOf(site) }];
    this.#client = new NodeClient({ wake: () => this.#connect(), prelude });
    this.#client.onEvent((event) => this.#onNodeEvent(event));
    this.#connection = Connection.to(url, site);
    const ready = () => this.#readyToRun();
    this.chat = { completions: new Completions({ client: this.#client, model: site.model, ready }) };
    this.models = { list: () => this.#asked(async (client) => toModelList(await client.models())) };
    this.consent = { ask: () => this.#ask(), status: () => ({ purposes: this.#purposes }) };
    this.network = {
      join: (peers = []) => this.#asked((client) => client.joinNetwork([...peers])),
      leave: () => this.#asked((client) => client.leaveNetwork()),
      status: () => this.#asked((client) => client.network()),
      peers: () => this.#asked(async (client) => (await client.network()).peers),
    };
    this.assistant = { open: () => this.#openAssistant(true), close: () => this.#openAssistant(false) };
  }

  /** Makes the frame and waits for its answer. Nothing is fetched, stored or computed before the visitor agrees. */
  async initialize(): Promise<void> {
    await this.#connection.open(this.#handlers);
  }

  on<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): this {
    this.#emitter.on(event, listener);
    return this;
  }

  off<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): this {
    this.#emitter.off(event, listener);
    return this;
  }

  /** What this device and browser offer, and what is done instead of what they lack. Needs consent. */
  capabilities(): Promise<Capabilities> {
    return this.#asked((client) => client.capabilities());
  }

  get #mayRun(): boolean {
    return this.#purposes.includes("runAi");
  }

  async #asked<T>(ask: (client: NodeClient) => Promise<T>): Promise<T> {
    await this.initialize();
    if (!this.#mayRun) throw consentRequired();
    return ask(this.#client);
  }

  async #readyToRun(): Promise<void> {
    await this.initialize();
    if (this.#mayRun) return;
    if (!this.#refused) await this.#ask();
    if (!this.#mayRun) throw consentRequired();
  }

  async #ask(): Promise<ConsentStatus> {
    await this.initialize();
    const deciding = withResolvers<ConsentStatus>();
    this.#deciding.push(deciding);
    this.#connection.send({ type: "ask" });
    return deciding.promise;
  }

  #openAssistant(open: boolean): void {
    const opened = this.initialize().then(() => this.#connection.send({ type: "assistant", open }));
    opened.catch((error: KwaaiNetError) => this.#onFault(error));
  }

  /** A data port, straight to the node. */
  #connect(): void {
    if (!this.#mayRun) return;
    const { port1, port2 } = new MessageChannel();
    this.#connection.send({ type: "connect" }, [port2]);
    this.#client.attach(asPort(port1));
  }

  #onReady(purposes: readonly Purpose[]): void {
    this.#purposes = purposes;
    this.#followConsent();
    if (!this.#wasReady) this.#emitter.emit("ready", { purposes });
    this.#wasReady = true;
    if (this.#client.inFlight === 0) return;
    // The frame was made anew in the middle of calls.
    if (this.#mayRun) this.#connect();
    else this.#client.failAll(consentRequired());
  }

  #onConsent(purposes: readonly Purpose[]): void {
    this.#purposes = purposes;
    this.#refused = !this.#mayRun;
    this.#followConsent();
    for (const { resolve } of this.#deciding.splice(0)) resolve({ purposes });
    this.#emitter.emit("consent", { purposes });
  }

  #followConsent(): void {
    if (!this.#mayRun) {
      this.#client.detach();
      this.#client.failAll(consentRequired());
      this.#closeFrontDoor?.();
      this.#closeFrontDoor = null;
    } else if ((this.#serviceWorker !== undefined || this.#selfHosted) && this.#closeFrontDoor === null) {
      this.#closeFrontDoor = frontDoor(this.#serviceWorker, (error) => this.#onFault(error));
    }
  }

  #reconnect(): void {
    const busy = this.#client.inFlight > 0;
    this.#client.detach();
    if (busy) this.#connect();
  }

  #onLost(): void {
    this.#client.detach();
    // The question went with the frame; who still wants an answer asks again.
    for (const { resolve } of this.#deciding.splice(0)) resolve({ purposes: this.#purposes });
    if (this.#client.inFlight > 0) this.initialize().catch((error: KwaaiNetError) => this.#onFault(error));
  }

  #onFault(error: KwaaiNetError): void {
    this.#client.failAll(error);
    for (const { reject } of this.#deciding.splice(0)) reject(error);
    // An error that nobody hears is worse than a line in the console.
    if (!this.#emitter.emit("error", error)) console.error(`KwaaiNet: ${error.message}`);
  }

  #onNodeEvent(event: NodeEvent): void {
    switch (event.type) {
      case "progress":
        this.#emitter.emit("progress", event.progress);
        return;
      case "modelChanged":
        this.#emitter.emit("model", event.status);
        return;
      case "networkChanged":
        this.#emitter.emit("network", event.network);
        return;
      case "warning":
        if (!this.#emitter.emit("warning", event)) console.warn(`KwaaiNet: ${event.message}`);
        return;
      default:
    }
  }
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** As `Promise.withResolvers`, which browsers have since 2024. */
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}

function consentRequired(): KwaaiNetError {
  const message =
    "The visitor has not agreed to run a model on this device: call consent.ask() after a gesture of theirs.";
  return new KwaaiNetError("consentRequired", message);
}
