/** Entry of the bridge page. In the site's own page (frames blocked) the loader calls `startBridge` itself. */
import type { BridgeEnvironment } from "../host/bridge-module.js";
import { readHandshake } from "../host/control.js";
import { DEPLOYMENT_ID, readDeployment } from "../host/deployment.js";
import { Bridge } from "./bridge.js";

export function startBridge(environment: BridgeEnvironment): void {
  new Bridge(environment);
}

const json = document.getElementById(DEPLOYMENT_ID)?.textContent;
if (json && window.parent !== window) awaitLoader(json);

function awaitLoader(deployment: string): void {
  // The loader wrote the nonce into our address; a window that did not make this frame does not know it.
  const nonce = location.hash.slice(1);
  const onMessage = (event: MessageEvent<unknown>) => {
    const handshake = readHandshake(event.data);
    const [control] = event.ports;
    if (event.source !== window.parent || handshake === null || control === undefined) return;
    if (nonce === "" || handshake.nonce !== nonce) return;
    window.removeEventListener("message", onMessage);
    startBridge({
      deployment: readDeployment(deployment, location.href),
      root: document.body,
      control,
      nonce,
      siteOrigin: event.origin,
      drawnIn: "frame",
    });
  };
  window.addEventListener("message", onMessage);
}
