/** What the loader needs of the bridge when it has to run in the site's page, because the frame is blocked. */
import type { ControlPort } from "./control.js";
import type { Deployment } from "./deployment.js";

export interface BridgeEnvironment {
  readonly deployment: Deployment;
  /** Where the panel and the assistant are drawn. */
  readonly root: HTMLElement;
  readonly control: ControlPort;
  readonly nonce: string;
  /** Exact origin of the site, as the browser reported it. */
  readonly siteOrigin: string;
  readonly drawnIn: "frame" | "page";
}

export interface BridgeModule {
  startBridge(environment: BridgeEnvironment): void;
}
