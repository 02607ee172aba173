/** The JSON of `<script type="application/json" id="kwaainet-deployment">` in frame.html. */
export interface Deployment {
  readonly version: string;
  readonly catalogueUrl: string;
  /** Ed25519 public key, 64 hexadecimal digits. */
  readonly catalogueKey: string;
  readonly models: readonly DeploymentModel[];
  readonly assets: DeploymentAssets;
}

/** A model as the build writes it into the frame, so that the panel can name sizes without fetching anything. */
export interface DeploymentModel {
  readonly id: string;
  readonly name: string;
  readonly bytes: number;
  readonly licence: string;
}

export interface DeploymentAssets {
  readonly frame: string;
  readonly panel: string;
  readonly assistant: string;
  readonly worker: string;
  readonly wasmSimd: string;
  /** Worker of the network, and its wasm: fetched only for those who help others. */
  readonly network: string;
  readonly wasmNetwork: string;
  /** The window's part of the network: WebRTC. */
  readonly webrtc: string;
  /** Absent where no build with threads was made. */
  readonly wasmThreads?: string;
  /** The JavaScript that goes with `wasmThreads`. */
  readonly glueThreads?: string;
  /** Classic service worker at the root of the deployment. */
  readonly serviceWorker?: string;
}

export const DEPLOYMENT_ID = "kwaainet-deployment";

/** Reads the JSON; its URLs are relative to `base` and come out absolute. */
export function readDeployment(json: string, base: string): Deployment {
  const deployment = JSON.parse(json) as Deployment;
  const absolute = (url: string) => new URL(url, base).href;
  const assets = Object.entries(deployment.assets).map(([name, url]) => [name, absolute(url)]);
  return {
    ...deployment,
    catalogueUrl: absolute(deployment.catalogueUrl),
    assets: Object.fromEntries(assets) as DeploymentAssets,
  };
}
