/**
 * The page in our frame, with a pretended node: it mounts the panel or the assistant as frame/main.ts does, and
 * tells the site's page how large it wants to be. What to show comes in the fragment of the URL.
 */
import { mountAssistant } from "../../../../js/src/assistant/assistant.ts";
import { makeNotice, noticeText } from "../../../../js/src/consent/notice.ts";
import { mountConsentPanel } from "../../../../js/src/consent/panel.ts";
import { fakeClient } from "./client.js";

const wish = JSON.parse(decodeURIComponent(location.hash.slice(1) || "%7B%7D"));
const root = document.querySelector("#root");
const seen = { decisions: [], layouts: [], withdrawn: 0, changed: 0 };
window.harness = seen;

const layout = (request) => {
  seen.layouts.push(request);
  parent.postMessage({ layout: request }, "*");
};
const model = {
  id: "smollm2-135m-instruct-q4_1",
  name: "SmolLM2 135M Instruct",
  bytes: 98_362_432,
  licence: "Apache-2.0",
};
const common = {
  deployment: { version: "0.1.0", models: [model] },
  model,
  options: wish.options ?? { assistant: true, maxResources: { cpu: 20, memory: 1024, storage: 5000 } },
  siteOrigin: wish.siteOrigin ?? "https://harbour-museum.example",
  locales: wish.locales ?? ["en-GB"],
  drawnIn: wish.drawnIn ?? "frame",
  layout,
};
const record = {
  receiptId: "k7q2-m4xn-80pv-3tzd",
  purposes: wish.purposes ?? ["runAi", "keepModel"],
  noticeDigest: "ab".repeat(32),
  language: "en",
  grantedAtMs: Date.UTC(2026, 10, 22, 9, 30),
  expiresAtMs: Date.UTC(2027, 4, 22, 9, 30),
};

const panelContext = {
  ...common,
  gpc: wish.gpc ?? false,
  current: wish.current ? record : null,
  withdrawn: wish.withdrawn ?? false,
  decide: (decision) => seen.decisions.push(decision),
};
const assistantContext = {
  ...common,
  record,
  purposes: record.purposes,
  justAgreed: wish.justAgreed ?? false,
  client: fakeClient(wish.node ?? {}, model, seen),
  withdraw: async () => {
    seen.withdrawn += 1;
    await new Promise((done) => setTimeout(done, wish.withdrawMs ?? 0));
  },
  changeConsent: () => {
    seen.changed += 1;
  },
};
seen.record = record;
seen.notice = noticeText(makeNotice(panelContext));
seen.mountedAt = performance.now();
addEventListener(
  "click",
  ({ timeStamp }) => {
    seen.clickedAt = timeStamp;
  },
  { capture: true },
);
if (wish.noLayoutMs) {
  // As Chromium is now and then when a frame's script runs first: nothing has a box, and then everything has.
  const { getClientRects } = Element.prototype;
  const offsetWidth = Object.getOwnPropertyDescriptor(HTMLElement.prototype, "offsetWidth");
  Element.prototype.getClientRects = () => [];
  Object.defineProperty(HTMLElement.prototype, "offsetWidth", { ...offsetWidth, get: () => 0 });
  setTimeout(() => {
    Element.prototype.getClientRects = getClientRects;
    Object.defineProperty(HTMLElement.prototype, "offsetWidth", offsetWidth);
  }, wish.noLayoutMs);
}
seen.mounted =
  wish.part === "assistant" ? mountAssistant(root, assistantContext) : mountConsentPanel(root, panelContext);
