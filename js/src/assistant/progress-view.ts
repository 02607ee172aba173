/** The download as people follow it: how much, how fast, how long, and a way to hold it. */
import { fill, isolate } from "../i18n/locale.js";
import { h, ICONS, icon, put, setText } from "../ui/dom.js";
import { type ModelState, share } from "./model-watch.js";
import { detail, explain, type Voice } from "./words.js";

export interface ProgressActions {
  readonly pause: () => void;
  readonly resume: () => void;
}

export class ProgressView {
  readonly element: HTMLElement;
  readonly #voice: Voice;
  readonly #actions: ProgressActions;
  readonly #fill = h("div", { class: "fill" });
  readonly #bar: HTMLElement;
  readonly #amount = h("span");
  readonly #pace = h("span");
  readonly #note = h("div", { class: "note", role: "status" });
  readonly #button: HTMLButtonElement;
  #act: () => void = () => undefined;

  constructor(voice: Voice, actions: ProgressActions) {
    this.#voice = voice;
    this.#actions = actions;
    this.#bar = h(
      "div",
      {
        class: "bar",
        role: "progressbar",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-label": voice.words.downloading,
      },
      this.#fill,
    );
    this.#button = h("button", { type: "button", class: "choice" });
    this.#button.addEventListener("click", () => this.#act());
    this.element = h(
      "div",
      { class: "progress" },
      this.#bar,
      h("div", { class: "line" }, h("p", { class: "figures" }, this.#amount, this.#pace), this.#button),
      this.#note,
    );
  }

  show(state: ModelState): void {
    const { words } = this.#voice;
    const part = share(state);
    const loading = state.phase === "load";
    this.#fill.style.inlineSize = `${loading ? 100 : part * 100}%`;
    this.#bar.classList.toggle("busy", loading || state.phase === "retry");
    if (loading) {
      this.#bar.removeAttribute("aria-valuenow");
    } else {
      this.#bar.setAttribute("aria-valuenow", String(Math.floor(part * 100)));
    }
    const { format } = this.#voice;
    const amount = loading
      ? words.loading
      : fill(words.of, {
          done: isolate(format.bytes(state.done)),
          total: isolate(format.bytes(state.total)),
        });
    const pace = this.#paceOf(state);
    this.#bar.setAttribute("aria-valuetext", pace === "" ? amount : `${amount} · ${pace}`);
    setText(this.#amount, amount);
    setText(this.#pace, pace);
    this.#noteOf(state);
    const held = state.phase === "paused" || state.phase === "waiting";
    this.#act = held || state.phase === "failed" ? this.#actions.resume : this.#actions.pause;
    setText(this.#button, held ? words.resume : state.phase === "failed" ? words.tryAgain : words.pause);
    this.#button.hidden = loading;
  }

  #paceOf({ phase, done, total, bytesPerSecond }: ModelState): string {
    const { words, format } = this.#voice;
    if (phase !== "fetch" || done >= total) {
      return "";
    }
    if (bytesPerSecond === null || bytesPerSecond <= 0) {
      return done === 0 ? words.starting : "";
    }
    const speed = fill(words.perSecond, { size: isolate(format.bytes(bytesPerSecond, 1)) });
    const time = isolate(format.wait((total - done) / bytesPerSecond));
    return `${speed} · ${fill(words.remaining, { time })}`;
  }

  #noteOf(state: ModelState): void {
    const { words } = this.#voice;
    const failed = state.phase === "failed";
    const text = failed
      ? explain(state.error, this.#voice)
      : state.phase === "retry"
        ? words.retry
        : state.phase === "paused"
          ? words.paused
          : "";
    this.#note.hidden = text === "";
    this.#note.classList.toggle("calm", !failed);
    if (this.#note.textContent?.startsWith(text) === true && text !== "") {
      return;
    }
    const more = failed ? detail(state.error) : "";
    put(
      this.#note,
      icon(failed ? ICONS.warn : ICONS.undo),
      h("span", {}, text, more === "" ? null : h("small", { lang: "en", dir: "auto" }, more)),
    );
  }
}
