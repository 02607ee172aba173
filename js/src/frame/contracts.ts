/**
 * What the bridge page (`frame/main.ts`) and the parts drawn on our origin agree on. The panel and the
 * assistant get everything from their context: they reach no port, storage or global state of their own.
 */

import type { LayoutRequest } from "../host/control.js";
import type { Deployment, DeploymentModel } from "../host/deployment.js";
import type { SiteOptions } from "../host/site-options.js";
import type {
  Capabilities,
  ChatDelta,
  ChatDone,
  ChatRequest,
  ConsentRecord,
  ModelStatus,
  NetworkStatus,
  Event as NodeEvent,
  Progress,
  Purpose,
} from "../protocol/types.js";

export type { LayoutMode, LayoutRequest } from "../host/control.js";
export type { Deployment, DeploymentAssets, DeploymentModel } from "../host/deployment.js";
export type { ResourceOptions, SiteOptions } from "../host/site-options.js";

/** Something drawn; `unmount` removes it and every listener. */
export interface Mounted {
  unmount(): void;
}

/** `mountConsentPanel(root, context)` of consent/panel.ts. `root` is an empty element that fills the frame. */
export interface PanelContext {
  readonly deployment: Deployment;
  readonly options: SiteOptions;
  /** The model that Accept would fetch. */
  readonly model: DeploymentModel;
  /** Exact origin of the site, as the browser reported it. */
  readonly siteOrigin: string;
  /** BCP 47 tag to write in, best first. */
  readonly locales: readonly string[];
  /** The visitor sends Global Privacy Control. */
  readonly gpc: boolean;
  /** `page`: our frame is blocked and the panel is drawn in the site's page; it must say that the site could read along. */
  readonly drawnIn: "frame" | "page";
  /** What is in force, when the visitor opens the panel to change it. */
  readonly current: ConsentRecord | null;
  /** The visitor has just withdrawn: say that everything is deleted before asking anything again. */
  readonly withdrawn?: boolean;
  /**
   * The record to grant; `null` is a refusal (nothing is stored; with `current` it is a withdrawal). Called
   * once. Closed without a change, the panel decides `current` again, the same object.
   */
  decide(record: ConsentRecord | null): void;
  layout(request: LayoutRequest): void;
}

export type MountConsentPanel = (root: HTMLElement, context: PanelContext) => Mounted;

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

export interface ChatCallOptions extends CallOptions {
  readonly onDelta?: (delta: ChatDelta) => void;
}

/** A client of the node on a panel port. It survives restarts of the node: calls go on, text is not repeated. */
export interface AssistantClient {
  /** Rejects with KwaaiNetError; an abort rejects with code `cancelled`. */
  chat(request: ChatRequest, options?: ChatCallOptions): Promise<ChatDone>;
  loadModel(model: string | null, options?: CallOptions): Promise<void>;
  models(): Promise<ModelStatus[]>;
  capabilities(): Promise<Capabilities>;
  /** Who is connected, with addresses. */
  network(): Promise<NetworkStatus>;
  /** Returns the function that ends it. */
  onEvent(listener: (event: NodeEvent) => void): () => void;
}

/** `mountAssistant(root, context)` of assistant/assistant.ts. */
export interface AssistantContext {
  readonly deployment: Deployment;
  readonly options: SiteOptions;
  readonly client: AssistantClient;
  /** The model that answers. */
  readonly model: DeploymentModel;
  readonly siteOrigin: string;
  readonly locales: readonly string[];
  readonly drawnIn: "frame" | "page";
  readonly purposes: readonly Purpose[];
  /** What is in force, for the visitor to read and keep. */
  readonly record: ConsentRecord;
  /** The visitor agreed on this very page: fetch the model now and show how far it is. */
  readonly justAgreed?: boolean;
  /** Ends consent, deletes what was kept; the assistant is unmounted and the panel mounted `withdrawn`. */
  withdraw(): Promise<void>;
  /** Opens the consent panel to change what was agreed to. */
  changeConsent(): void;
  layout(request: LayoutRequest): void;
}

/**
 * Mounted after consent whether or not the site wants our assistant: without `options.assistant` it draws only
 * the progress and the visitor's settings, so that withdrawing is as easy on every site. It starts closed (as a
 * pill) and is opened by its own button or by the site's `assistant.open()`.
 */
export interface MountedAssistant extends Mounted {
  open(): void;
  close(): void;
}

export type MountAssistant = (root: HTMLElement, context: AssistantContext) => MountedAssistant;
