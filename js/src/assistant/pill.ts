/** The small button that everything collapses to. While a model is fetched it shows how far that is. */
import { h, ICONS, icon, mark, put } from "../ui/dom.js";
import { type ModelState, share } from "./model-watch.js";
import type { Voice } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** `bare`: the site draws its own interface, so ours is only a mark that leads to the settings. */
export function pill(state: ModelState, voice: Voice, bare: boolean, press: () => void): HTMLElement {
  const { words, format } = voice;
  const button = h("button", { type: "button" });
  button.addEventListener("click", press);
  const moving = state.phase === "fetch" || state.phase === "retry" || state.phase === "paused";
  const name = bare ? words.choices : words.ask;
  const percent = moving ? format.percent(share(state)) : "";
  const failed = state.phase === "failed";
  button.className = bare && !moving ? "pill bare" : "pill";
  const sign = moving ? gauge(share(state)) : failed ? icon(ICONS.warn) : mark();
  // The name for screen readers is the visible text plus what only the picture tells (WCAG 2.5.3).
  const aside = moving ? ` ${words.downloading}: ` : failed ? ` ${words.failed}` : "";
  put(
    button,
    sign,
    bare ? h("span", { class: "hide" }, name) : h("span", {}, name),
    h("span", { class: "hide" }, aside),
    moving ? h("span", { class: "num" }, percent) : null,
  );
  if (bare) {
    button.title = name;
  }
  return button;
}

function gauge(part: number): SVGElement {
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", "0 0 28 28");
  root.setAttribute("class", "gauge");
  root.setAttribute("aria-hidden", "true");
  const around = 2 * Math.PI * 11.5;
  for (const name of ["whole", "part"]) {
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("class", name);
    circle.setAttribute("cx", "14");
    circle.setAttribute("cy", "14");
    circle.setAttribute("r", "11.5");
    circle.setAttribute("stroke-dasharray", String(around));
    circle.setAttribute("stroke-dashoffset", String(name === "part" ? around * (1 - part) : 0));
    root.append(circle);
  }
  return root;
}
