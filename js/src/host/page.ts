/**
 * The bridge in the site's own page, where the site blocks our frame. The node then computes in a worker with the
 * site's origin: the site could read along, and the panel says so.
 */
import type { BridgeModule } from "./bridge-module.js";
import type { ControlPort } from "./control.js";
import { DEPLOYMENT_ID, readDeployment } from "./deployment.js";
import type { BridgeHost, FrameHandlers } from "./frame.js";
import { applyLayout } from "./layout.js";

const json = new RegExp(`<script[^>]*id="${DEPLOYMENT_ID}"[^>]*>([^<]*)</script>`);

export async function openPage(base: URL, handlers: Pick<FrameHandlers, "onControl">): Promise<BridgeHost> {
  const url = new URL("frame.html", base).href;
  const response = await fetch(url, { credentials: "omit" });
  const text = json.exec(await response.text())?.[1];
  if (text === undefined) throw new Error(`${url} holds no deployment`);
  const deployment = readDeployment(text, url);
  const bridge: BridgeModule = await import(deployment.assets.frame);
  const element = document.createElement("div");
  applyLayout(element, { mode: "hidden", width: 0, height: 0 });
  // Closed: the site's own scripts and styles do not get in by accident. It is no wall against a hostile site.
  const shadow = element.attachShadow({ mode: "closed" });
  const root = shadow.appendChild(document.createElement("div"));
  document.documentElement.append(element);
  const nonce = crypto.randomUUID();
  const { port1, port2 } = new MessageChannel();
  bridge.startBridge({
    deployment,
    root,
    control: port2 as ControlPort,
    nonce,
    siteOrigin: location.origin,
    drawnIn: "page",
  });
  handlers.onControl(port1 as ControlPort, nonce);
  return {
    element,
    close() {
      port1.close();
      element.remove();
    },
  };
}
