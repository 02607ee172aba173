import type { LayoutRequest } from "./control.js";

/**
 * Important, so that no style of the site changes them by accident. Zero size and not `display: none`, because
 * browsers throttle frames that are not displayed (measured: 2 timers per second in Chromium).
 */
const fixed: Readonly<Record<string, string>> = {
  position: "fixed",
  inset: "auto",
  bottom: "0",
  "inset-inline-end": "0",
  "max-width": "100vw",
  "max-height": "100vh",
  "min-width": "0",
  "min-height": "0",
  margin: "0",
  padding: "0",
  border: "0",
  display: "block",
  visibility: "visible",
  opacity: "1",
  background: "transparent",
  "color-scheme": "normal",
  "z-index": "2147483647",
};

/** Gives the frame (or what stands in for it) the size it asked for; the maxima keep it within the viewport. */
export function applyLayout(element: HTMLElement, { mode, width, height }: LayoutRequest): void {
  const shown = mode !== "hidden";
  const style = { ...fixed, width: shown ? `${width}px` : "0", height: shown ? `${height}px` : "0" };
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value, "important");
  element.tabIndex = shown ? 0 : -1;
  if (shown) element.removeAttribute("aria-hidden");
  else element.setAttribute("aria-hidden", "true");
}
