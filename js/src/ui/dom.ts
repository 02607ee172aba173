/**
 * Elements without innerHTML: text is always text, and pages that require Trusted Types need no policy of ours.
 */

// biome-ignore lint/suspicious/noExplicitAny: listeners of every event type share one table of attributes
type Listener = (event: any) => void;
type Value = string | number | boolean | undefined | Listener;
export type Attributes = Readonly<Record<string, Value>>;
export type Child = Node | string | null;

/** `h("button", { type: "button", onclick: fn, hidden: false }, "Text")`; `false` and `undefined` are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (value !== false && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  put(element, ...children);
  return element;
}

/** Replaces what an element holds. */
export function put(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren(...children.filter((child) => child !== null));
}

/** Sets the text only if it differs, so that a live region speaks once. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** A line icon on a 20 x 20 grid, invisible to assistive technology: every button has a name of its own. */
export function icon(path: string): SVGElement {
  return svg("icon", "0 0 20 20", [{ d: path }]);
}

/** Our mark: an open ring that holds a seed. What is inside stays inside. */
export function mark(): SVGElement {
  return svg("mark", "0 0 24 24", [
    { d: "M17.9 5.2A9 9 0 1 0 20.6 9.4", class: "ring" },
    { d: "M12 7.4c3 1.2 3.6 5.4.4 8.6-3.6-1.9-3.9-6.3-.4-8.6Z", class: "seed" },
  ]);
}

function svg(name: string, viewBox: string, paths: readonly Record<string, string>[]): SVGElement {
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", viewBox);
  root.setAttribute("class", name);
  root.setAttribute("aria-hidden", "true");
  root.setAttribute("focusable", "false");
  for (const attributes of paths) {
    const path = document.createElementNS(SVG, "path");
    for (const [key, value] of Object.entries(attributes)) {
      path.setAttribute(key, value);
    }
    root.append(path);
  }
  return root;
}

export const ICONS = {
  download: "M10 3v9m0 0 3.5-3.5M10 12 6.5 8.5M4 13.5V15a1.5 1.5 0 0 0 1.5 1.5h9A1.5 1.5 0 0 0 16 15v-1.5",
  device: "M4.5 4h11v9h-11zM2.5 16.5h15",
  eye: "M2.5 10S5.3 5 10 5s7.5 5 7.5 5-2.8 5-7.5 5-7.5-5-7.5-5ZM10 12a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  shield: "M10 2.8 4.5 5v4.5c0 3.5 2.3 6.2 5.5 7.7 3.2-1.5 5.5-4.2 5.5-7.7V5L10 2.8ZM7.6 9.9l1.7 1.7 3.1-3.3",
  gauge: "M4 15a7 7 0 1 1 12 0M10 11.5l3-3.5",
  coin: "M10 16.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM7 10h6",
  undo: "M7 4 3.5 7.5 7 11M4 7.5h7.5a4.5 4.5 0 0 1 0 9H8",
  close: "m5 5 10 10M15 5 5 15",
  minimise: "M5 10h10",
  settings: "M3 6h8m4 0h2M3 14h2m4 0h8M13 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM7 16a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  plus: "M10 4v12M4 10h12",
  back: "M12 4.5 6.5 10l5.5 5.5",
  send: "M10 16V4m0 0L5 9m5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM4 13V4h9",
  check: "m4 10.5 4 4 8-9",
  warn: "M10 3 2.5 16.5h15L10 3ZM10 8.5v3.5M10 14.3v.2",
} as const;
