import { h } from "./dom.js";
import { SHADOW_MODE } from "./shadow.js";

/** In frames lower than this the heading scrolls with the text (a phone on its side, 400 % zoom). */
const SHORT = 360;

/** Size that a part asks the frame for, and where its parts are hung up. */
export interface Surface {
  /** Fills the frame. */
  readonly host: HTMLElement;
  /** As wide as the part wants to be, anchored at the bottom right. */
  readonly stage: HTMLElement;
  readonly root: ShadowRoot;
}

/** Distance of the card from the frame's edge: room for its shadow. */
export const MARGIN = 16;

/**
 * Makes a custom element with a shadow root and an anchored stage. The class is empty on purpose: everything
 * that could be called from outside would be part of the attack surface when the page is not ours.
 */
export function surface(name: string, css: string, language: string, direction: "ltr" | "rtl"): Surface {
  if (globalThis.customElements !== undefined && customElements.get(name) === undefined) {
    customElements.define(name, class extends HTMLElement {});
  }
  const host = document.createElement(name);
  const root = host.attachShadow({ mode: SHADOW_MODE });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  const stage = h("div", { class: "stage", lang: language, dir: direction });
  root.append(stage);
  return { host, stage, root };
}

/** How soon a frame without a layout looks again. */
const RETRY_MS = 100;

/**
 * Keeps the frame as large as a card needs, and the card within what the frame really got.
 * `natural` measures the card at a width; it is asked again when the frame's width changes.
 */
export class Sizer {
  readonly #surface: Surface;
  readonly #request: (width: number, height: number) => void;
  readonly #observer: ResizeObserver;
  #wanted: { width: number | HTMLElement; height: "content" | number } = { width: 0, height: 0 };
  #last = "";
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(surface: Surface, request: (width: number, height: number) => void) {
    this.#surface = surface;
    this.#request = request;
    this.#observer = new ResizeObserver(() => this.update());
    this.#observer.observe(surface.host);
  }

  /** Width of the card without margins, or what is as wide; a fixed height, or as much as it holds. */
  want(width: number | HTMLElement, height: "content" | number): void {
    this.#wanted = { width, height };
    this.update();
  }

  /** Something changed inside. */
  update(): void {
    const { host, stage } = this.#surface;
    const { height } = this.#wanted;
    clearTimeout(this.#retry);
    // While somebody hides us nothing has a size, and nothing is asked for. The same is so now and then (measured in
    // Chromium: 1 of 180 loads) at the start, before the browser has laid out the frame; no observer tells the end of
    // either, because the frame stays as it is, 0 x 0.
    if (host.getClientRects().length === 0) {
      this.#retry = setTimeout(() => this.update(), RETRY_MS);
      return;
    }
    const width =
      typeof this.#wanted.width === "number" ? this.#wanted.width : this.#wanted.width.offsetWidth;
    // Measured once: in a frame that is too narrow it would get narrower with each look.
    this.#wanted = { width, height };
    if (width === 0) {
      return;
    }
    const box = host.getBoundingClientRect();
    const full = width + 2 * MARGIN;
    // Before the first layout the frame is 0 x 0; the wish is measured as if it were granted.
    const got = box.width > 0 ? Math.min(full, box.width) : full;
    const margin = got < full ? MARGIN / 2 : MARGIN;
    stage.style.setProperty("--margin", `${margin}px`);
    stage.style.width = `${got}px`;
    stage.style.height = "auto";
    stage.style.maxHeight = "none";
    // Rounded up: a tenth of a pixel too little would make the text a scroller.
    const natural = () => Math.ceil(stage.getBoundingClientRect().height);
    const tall = height === "content" ? natural() : height + 2 * margin;
    stage.classList.toggle("short", box.height > 0 && box.height < Math.min(tall, SHORT));
    if (box.height > 0) {
      stage.style.maxHeight = `${box.height}px`;
    }
    if (height !== "content") {
      stage.style.height = `${Math.min(tall, box.height || tall)}px`;
    }
    const key = `${full}x${tall}`;
    if (key !== this.#last) {
      this.#last = key;
      this.#request(full, tall);
    }
  }

  /** The next wish is told even if it equals the last. */
  forget(): void {
    this.#last = "";
  }

  stop(): void {
    clearTimeout(this.#retry);
    this.#observer.disconnect();
  }
}
