/** One message as it is drawn: the visitor's, or an answer that grows. */
import type { Receipt } from "../protocol/types.js";
import { h, ICONS, icon, setText } from "../ui/dom.js";
import { receiptView } from "./receipt.js";
import { TextView } from "./text.js";
import { detail, explain, type Voice } from "./words.js";

export function question(text: string, { words }: Voice): HTMLElement {
  return h(
    "div",
    { class: "turn mine" },
    h("span", { class: "hide" }, `${words.you}: `),
    h("div", { class: "said", dir: "auto" }, text),
  );
}

export class Answer {
  readonly element: HTMLElement;
  readonly #voice: Voice;
  readonly #text = new TextView();
  readonly #status: HTMLElement;
  readonly #statusText = h("span");
  readonly #copy: (text: string) => Promise<boolean>;
  #written = "";
  #scheduled = false;
  #grew: () => void;

  constructor(voice: Voice, grew: () => void, copy: (text: string) => Promise<boolean>) {
    this.#voice = voice;
    this.#grew = grew;
    this.#copy = copy;
    this.#status = h(
      "p",
      { class: "status" },
      h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
      this.#statusText,
    );
    this.element = h(
      "div",
      { class: "turn" },
      h("span", { class: "hide" }, `${voice.words.name}: `),
      this.#text.element,
      this.#status,
    );
  }

  get written(): string {
    return this.#written;
  }

  /** What is going on while there is nothing to read. */
  wait(text: string): void {
    setText(this.#statusText, text);
  }

  /** Text is drawn once per frame, however many pieces come. */
  add(text: string): void {
    this.#written += text;
    if (!this.#scheduled && text !== "") {
      this.#scheduled = true;
      requestAnimationFrame(() => {
        this.#scheduled = false;
        this.#draw();
      });
    }
  }

  #draw(): void {
    this.#text.show(this.#written);
    this.#status.hidden = this.#written.trim() !== "";
    this.#grew();
  }

  done(receipt: Receipt | null, model: string, note: string): void {
    this.#draw();
    this.#status.remove();
    if (note !== "") {
      this.element.append(h("p", { class: "small" }, note));
    }
    if (receipt !== null) {
      this.element.append(receiptView(receipt, model, this.#voice));
    }
    if (this.#written.trim() !== "") {
      this.element.append(this.#tools());
    }
    this.#grew();
  }

  failed(error: unknown, again: HTMLElement): void {
    this.#draw();
    this.#status.remove();
    const more = detail(error);
    this.element.append(
      h(
        "div",
        { class: "note" },
        icon(ICONS.warn),
        h(
          "span",
          {},
          explain(error, this.#voice),
          more === "" ? null : h("small", { lang: "en", dir: "auto" }, more),
        ),
      ),
      h("div", { class: "tools" }, again),
    );
    this.#grew();
  }

  #tools(): HTMLElement {
    const { words } = this.#voice;
    const label = h("span", {}, words.copy);
    const button = h("button", { type: "button", class: "text-tool" }, icon(ICONS.copy), label);
    button.addEventListener("click", () => {
      void this.#copy(this.#written).then((copied) => {
        if (copied) {
          setText(label, words.copied);
          setTimeout(() => setText(label, words.copy), 2000);
        }
      });
    });
    return h("div", { class: "tools" }, button);
  }
}
