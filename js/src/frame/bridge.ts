/**
 * The logic of the bridge page: consent first, then the worker. It draws the panel and the assistant, hands data
 * ports on to the worker, and tells the loader no more than outcomes and sizes.
 */
import type { BridgeEnvironment } from "../host/bridge-module.js";
import { BUS_NAME } from "../host/channel-port.js";
import { type LayoutRequest, readToFrame, type ToFrame } from "../host/control.js";
import type { DeploymentModel } from "../host/deployment.js";
import { makeWorker } from "../host/own-worker.js";
import { configOf, isObject, type SiteOptions } from "../host/site-options.js";
import { NodeClient } from "../protocol/client.js";
import { errorToBody, KwaaiNetError } from "../protocol/errors.js";
import { asPort } from "../protocol/port.js";
import type { Command, ConsentRecord, Event as NodeEvent, Purpose } from "../protocol/types.js";
import type { MountAssistant, MountConsentPanel, Mounted, MountedAssistant } from "./contracts.js";
import { NodeWorker } from "./node-worker.js";
import { clearStorage, readRecord } from "./record.js";
import { ServiceWorkerHost } from "./service-worker-host.js";

/** To the bridges of other tabs: what they know about consent no longer holds. */
const GRANTED = "granted";
const WITHDRAWN = "withdrawn";

/** How long the node has to delete what it kept before it is ended and its storage is deleted under it. */
const WITHDRAW_MS = 5_000;

const HIDDEN: LayoutRequest = { mode: "hidden", width: 0, height: 0 };

export class Bridge {
  readonly #environment: BridgeEnvironment;
  #options: SiteOptions | null = null;
  #locales: readonly string[] = [];
  #record: ConsentRecord | null = null;
  #worker: NodeWorker | null = null;
  readonly #client: NodeClient;
  #panel: Mounted | null = null;
  #asking = false;
  #withdrawing = false;
  #assistant: MountedAssistant | null = null;
  #assistantRoot: HTMLElement | null = null;
  #assistantLayout = HIDDEN;
  #serviceWorker: ServiceWorkerHost | null = null;
  readonly #tabs = new BroadcastChannel(BUS_NAME);

  constructor(environment: BridgeEnvironment) {
    this.#environment = environment;
    this.#client = new NodeClient({ prelude: () => this.#prelude(), wake: () => this.#wake() });
    this.#client.onEvent((event) => this.#onNodeEvent(event));
    environment.control.onmessage = (event) => {
      const message = readToFrame(event.data);
      if (message === null) return;
      this.#onControl(message, event.ports).catch((error: unknown) => this.#fault(error));
    };
    environment.control.postMessage({ type: "here", nonce: environment.nonce });
  }

  async #onControl(message: ToFrame, ports: readonly MessagePort[]): Promise<void> {
    if (message.type === "init") {
      if (this.#options === null) await this.#init(message.options, message.locales);
      return;
    }
    if (this.#options === null) return;
    switch (message.type) {
      case "connect":
        if (ports[0] !== undefined) this.#connect(ports[0]);
        return;
      case "ask":
        await this.#ask();
        return;
      case "assistant":
        if (message.open && this.#purposes.length === 0) await this.#ask();
        else if (message.open) this.#assistant?.open();
        else this.#assistant?.close();
        return;
      default:
    }
  }

  get #purposes(): readonly Purpose[] {
    return this.#record?.purposes ?? [];
  }

  get #mayRun(): boolean {
    return this.#purposes.includes("runAi");
  }

  async #init(options: SiteOptions, locales: readonly string[]): Promise<void> {
    this.#options = options;
    // The notice is for the visitor, so their languages come before the site's.
    this.#locales = [...navigator.languages, ...locales];
    this.#record = await readRecord(Date.now());
    this.#environment.control.postMessage({ type: "ready", purposes: this.#purposes });
    this.#tabs.addEventListener("message", (event: MessageEvent<unknown>) => {
      this.#onOtherTab(event.data).catch((error: unknown) => this.#fault(error));
    });
    await this.#showAssistant(false);
  }

  /** Another tab of this site may be asked first; then nobody is asked twice. */
  async #onOtherTab(data: unknown): Promise<void> {
    const { type } = isObject(data) ? data : {};
    if (type === WITHDRAWN) await this.#forget();
    if (type === GRANTED && this.#record === null) {
      const record = await readRecord(Date.now());
      if (record === null || this.#record !== null) return;
      this.#record = record;
      if (this.#panel !== null) this.#closePanel();
      await this.#afterGrant(false);
    }
  }

  #connect(port: MessagePort): void {
    if (!this.#mayRun) {
      port.close();
      this.#fault(
        new KwaaiNetError("consentRequired", "Nobody agreed to run a model here: ask for consent first."),
      );
      return;
    }
    this.#startWorker().transfer(port, "site");
  }

  // --- consent ---

  async #ask(withdrawn = false): Promise<void> {
    if (this.#panel !== null || this.#asking) return;
    this.#asking = true;
    try {
      const { deployment, root, siteOrigin, drawnIn } = this.#environment;
      const module: { mountConsentPanel: MountConsentPanel } = await import(deployment.assets.panel);
      if (this.#assistantRoot !== null) this.#assistantRoot.hidden = true;
      const element = root.appendChild(document.createElement("div"));
      const panel = module.mountConsentPanel(element, {
        deployment,
        options: this.#options ?? {},
        model: this.#model(),
        siteOrigin,
        locales: this.#locales,
        gpc: (navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl === true,
        drawnIn,
        current: this.#record,
        withdrawn,
        decide: (record) => {
          this.#decided(record).catch((error: unknown) => this.#fault(error));
        },
        layout: (request) => this.#layout(request),
      });
      this.#panel = {
        unmount: () => {
          panel.unmount();
          element.remove();
        },
      };
    } finally {
      this.#asking = false;
    }
  }

  #closePanel(): void {
    this.#panel?.unmount();
    this.#panel = null;
    if (this.#assistantRoot !== null) this.#assistantRoot.hidden = false;
    this.#layout(this.#assistantLayout);
  }

  async #decided(record: ConsentRecord | null): Promise<void> {
    if (this.#panel === null) return;
    const had = this.#record;
    this.#closePanel();
    if (record !== null && record === had) return;
    if (record === null || record.purposes.length === 0) {
      if (had !== null) await this.#withdraw();
      else this.#tellConsent();
      return;
    }
    this.#record = record;
    try {
      await this.#client.send({ type: "grant", record });
    } catch (error) {
      this.#record = had;
      throw error;
    } finally {
      if (this.#record === had) this.#tellConsent();
    }
    this.#tabs.postMessage({ type: GRANTED });
    await this.#afterGrant(true);
  }

  async #afterGrant(justAgreed: boolean): Promise<void> {
    this.#tellConsent();
    await this.#showAssistant(justAgreed);
  }

  /** Works whether or not there is a node that can be asked: what it kept is deleted here as well. */
  async #withdraw(): Promise<void> {
    this.#withdrawing = true;
    const asked = this.#client.send({ type: "withdraw" }).catch(() => undefined);
    await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, WITHDRAW_MS))]);
    this.#withdrawing = false;
    this.#tabs.postMessage({ type: WITHDRAWN });
    await this.#forget();
    await this.#ask(true);
  }

  /** What follows from a withdrawal, in this tab or in another one. */
  async #forget(): Promise<void> {
    if (this.#record === null) return;
    this.#record = null;
    this.#tellConsent();
    this.#client.detach();
    this.#client.failAll(new KwaaiNetError("consentRequired", "Consent was withdrawn."));
    this.#worker?.stop();
    this.#worker = null;
    try {
      await this.#serviceWorker?.remove();
      this.#serviceWorker = null;
      await clearStorage();
    } finally {
      // Last, so that the visitor is not told before it is true.
      this.#hideAssistant();
    }
  }

  #hideAssistant(): void {
    this.#assistant?.unmount();
    this.#assistantRoot?.remove();
    this.#assistant = null;
    this.#assistantRoot = null;
    this.#assistantLayout = HIDDEN;
    if (this.#panel === null) this.#layout(HIDDEN);
  }

  #tellConsent(): void {
    this.#environment.control.postMessage({ type: "consent", purposes: this.#purposes });
  }

  #onNodeEvent(event: NodeEvent): void {
    if (event.type !== "consentChanged" || this.#withdrawing) return;
    if (event.purposes.length === 0) {
      this.#forget().catch((error: unknown) => this.#fault(error));
    } else if (this.#record !== null && event.purposes.join() !== this.#purposes.join()) {
      this.#record = { ...this.#record, purposes: event.purposes };
      this.#tellConsent();
    }
  }

  // --- the node ---

  /** A new node knows neither the site's configuration nor, without storage, the visitor's decision. */
  #prelude(): Command[] {
    const commands: Command[] = [{ type: "configure", config: configOf(this.#options ?? {}) }];
    if (this.#record !== null) commands.push({ type: "grant", record: this.#record });
    return commands;
  }

  #wake(): void {
    if (this.#mayRun) this.#attachClient(this.#startWorker());
    else this.#client.failAll(new KwaaiNetError("consentRequired", "Nobody agreed to run a model here."));
  }

  #attachClient(worker: NodeWorker): void {
    const { port1, port2 } = new MessageChannel();
    worker.transfer(port2, "panel");
    this.#client.attach(asPort(port1));
  }

  #startWorker(): NodeWorker {
    if (this.#worker !== null) return this.#worker;
    const { deployment, drawnIn } = this.#environment;
    const host = drawnIn === "page" ? "page" : (this.#options?.host ?? "worker");
    const missing = [];
    if (drawnIn === "page") {
      missing.push({
        what: "frame",
        instead: "the node runs in the site's page: it computes, but keeps no keys",
      });
      if (this.#options?.host === "service-worker") {
        missing.push({ what: "service-worker host", instead: "a worker of the page computes" });
      }
    }
    if (!("serviceWorker" in navigator))
      missing.push({ what: "serviceWorker", instead: "no /kwaainet/v1 addresses" });
    const worker = new NodeWorker(
      () => makeWorker(deployment.assets.worker, drawnIn === "page"),
      { host, deployment, missing },
      {
        onRestart: () => {
          if (this.#client.epoch !== null || this.#client.inFlight > 0) this.#attachClient(worker);
          this.#environment.control.postMessage({ type: "reconnect" });
        },
        onFault: (error) => {
          this.#client.failAll(error);
          this.#fault(error);
        },
        onTick: () => this.#serviceWorker?.ping(),
        onPeerConnections: (port) => {
          this.#makePeerConnections(port).catch((error: unknown) => this.#fault(error));
        },
      },
    );
    this.#worker = worker;
    worker.start();
    // The panel's port goes first: its prelude is the configuration that every other port relies on.
    this.#attachClient(worker);
    const hosted = host === "service-worker";
    // A registration is storage: it needs leave to keep things, unless nothing runs without it.
    const mayKeep = this.#purposes.includes("keepModel");
    if (drawnIn === "frame" && (hosted || mayKeep)) this.#startServiceWorker(hosted);
    return worker;
  }

  /** Fetched only when a network begins. */
  async #makePeerConnections(port: MessagePort): Promise<void> {
    const { webrtc } = this.#environment.deployment.assets;
    const module: { servePeerConnections(port: MessagePort): void } = await import(webrtc);
    module.servePeerConnections(port);
  }

  #startServiceWorker(hostsNode: boolean): void {
    if (this.#serviceWorker !== null) return;
    this.#serviceWorker = new ServiceWorkerHost(this.#environment.deployment, hostsNode);
    this.#serviceWorker.start().catch((error: unknown) => {
      // The default host works without it; the other one is nothing without it.
      if (hostsNode) this.#fault(error);
    });
  }

  // --- what is drawn ---

  #model(): DeploymentModel {
    const { models } = this.#environment.deployment;
    const model = models.find((entry) => entry.id === this.#options?.model) ?? models[0];
    if (model === undefined) throw new KwaaiNetError("modelNotFound", "This deployment offers no model.");
    return model;
  }

  /** Also without `options.assistant`: then it shows only progress and the visitor's settings. */
  async #showAssistant(justAgreed: boolean): Promise<void> {
    if (!this.#mayRun || this.#assistantRoot !== null) return;
    const { deployment, root, siteOrigin, drawnIn } = this.#environment;
    const element = root.appendChild(document.createElement("div"));
    this.#assistantRoot = element;
    const module: { mountAssistant: MountAssistant } = await import(deployment.assets.assistant);
    // Consent may have been withdrawn while the module was on its way.
    if (this.#assistantRoot !== element || this.#record === null) return;
    this.#assistant = module.mountAssistant(element, {
      deployment,
      options: this.#options ?? {},
      client: this.#client,
      model: this.#model(),
      siteOrigin,
      locales: this.#locales,
      drawnIn,
      purposes: this.#purposes,
      record: this.#record,
      justAgreed,
      withdraw: () => this.#withdraw(),
      changeConsent: () => {
        this.#ask().catch((error: unknown) => this.#fault(error));
      },
      layout: (request) => {
        this.#assistantLayout = request;
        if (this.#panel === null) this.#layout(request);
      },
    });
  }

  #layout(request: LayoutRequest): void {
    const { mode, width, height } = request;
    this.#environment.control.postMessage({ type: "layout", mode, width, height });
  }

  #fault(error: unknown): void {
    this.#environment.control.postMessage({ type: "fault", error: errorToBody(error) });
  }
}
