/**
 * What the bridge page (`frame/main.ts`) and the parts drawn on our origin agree on. The panel and the
 * assistant get everything from their context: they reach no port, storage or global state of their own.
 */
import type {
  Capabilities,
  ChatDelta,
  ChatDone,
  ChatRequest,
  ConsentRecord,
  Event as NodeEvent,
  ModelStatus,
  Progress,
  Purpose,
} from "../protocol/types.js";

/** A model as the build writes it into the frame, so that the panel can name sizes without fetching anything. */
export interface DeploymentModel {
  readonly id: string;
  readonly name: string;
  readonly bytes: number;
  readonly licence: string;
}

/** The JSON of `<script type="application/json" id="kwaainet-deployment">` in frame.html. */
export interface Deployment {
  readonly version: string;
  /** Absolute, or relative to frame.html. */
  readonly catalogueUrl: string;
  /** Ed25519 public key, 64 hexadecimal digits. */
  readonly catalogueKey: string;
  readonly models: readonly DeploymentModel[];
  /** Relative to frame.html. */
  readonly assets: DeploymentAssets;
}

export interface DeploymentAssets {
  readonly frame: string;
  readonly panel: string;
  readonly assistant: string;
  readonly worker: string;
  readonly wasmSimd: string;
  /** Absent where no build with threads was made. */
  readonly wasmThreads?: string;
  /** Classic service worker, at the root of the deployment. */
  readonly serviceWorker?: string;
}

/** What the site asked for, after the loader checked it. Unset values take the node's defaults. */
export interface SiteOptions {
  readonly services?: readonly ("compute" | "storage" | "identity" | "carbon")[];
  readonly privacyCompliance?: readonly ("gdpr" | "ccpa" | "hipaa")[];
  readonly rewardSplit?: readonly [number, number];
  readonly maxResources?: {
    readonly cpu?: number;
    readonly memory?: number;
    readonly storage?: number;
  };
  readonly model?: string;
  /** The site wants our assistant, drawn on our origin. Without it the site draws its own and reads the text. */
  readonly assistant?: boolean;
  readonly host?: "worker" | "service-worker" | "page";
  readonly siteId?: string;
  readonly greenBonus?: boolean;
}

/** How much of the site's viewport our frame covers, in CSS pixels; the loader clips it to the viewport. */
export type LayoutMode = "hidden" | "panel" | "assistant" | "pill";

export interface LayoutRequest {
  readonly mode: LayoutMode;
  readonly width: number;
  readonly height: number;
}

/** The loader's answer: what the frame really got. */
export type Layout = LayoutRequest;

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
  /** The record to grant; `null` is a refusal (nothing is stored). Called once. */
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
  /** Ends consent, deletes what was kept; the assistant is unmounted afterwards. */
  withdraw(): Promise<void>;
  /** Opens the consent panel to change what was agreed to. */
  changeConsent(): void;
  layout(request: LayoutRequest): void;
}

/** The assistant starts closed (as a pill) and is opened by its own button or by the site's `assistant.open()`. */
export interface MountedAssistant extends Mounted {
  open(): void;
  close(): void;
}

export type MountAssistant = (root: HTMLElement, context: AssistantContext) => MountedAssistant;
