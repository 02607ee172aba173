/** The chat window: messages, the field to write in, and what the model is doing meanwhile. */
import type { AssistantContext } from "../frame/contracts.js";
import { fill } from "../i18n/locale.js";
import { h, ICONS, icon, mark, put, setText } from "../ui/dom.js";
import { Conversation } from "./conversation.js";
import { type ModelState, share } from "./model-watch.js";
import type { ProgressView } from "./progress-view.js";
import { withdrawButton } from "./settings-view.js";
import { Answer, question } from "./turn.js";
import { codeOf, type Voice } from "./words.js";

export interface ChatActions {
  /** The visitor wants to use the model: load it if it is here. */
  readonly warm: () => void;
  readonly answered: () => void;
}

export class ChatView {
  readonly body: HTMLElement;
  readonly foot: HTMLElement;
  readonly #context: AssistantContext;
  readonly #voice: Voice;
  readonly #actions: ChatActions;
  readonly #talk: Conversation;
  readonly #log: HTMLElement;
  readonly #field: HTMLTextAreaElement;
  readonly #send: HTMLButtonElement;
  readonly #download: HTMLElement;
  readonly #live = h("div", { class: "hide", role: "status" });
  #answer: Answer | null = null;
  #model: ModelState | null = null;

  constructor(context: AssistantContext, voice: Voice, progress: ProgressView, actions: ChatActions) {
    this.#context = context;
    this.#voice = voice;
    this.#actions = actions;
    this.#talk = new Conversation(context.client, context.model);
    const { words } = voice;
    this.#log = h("div", { class: "log", role: "log", "aria-label": words.conversation, tabindex: 0 });
    this.body = h("div", { class: "scroll" }, this.#log);
    this.#field = h("textarea", {
      rows: 1,
      dir: "auto",
      "aria-label": words.message,
      placeholder: words.placeholder,
      "aria-describedby": "honest",
      autocomplete: "off",
    });
    this.#send = h("button", { type: "button", class: "send" });
    this.#download = h(
      "div",
      { class: "strip" },
      h("p", { class: "strip-title" }, words.downloading),
      progress.element,
    );
    const notes = h("div", { role: "status" });
    this.foot = h(
      "div",
      { class: "compose" },
      this.#download,
      h("div", { class: "field" }, this.#field, this.#send),
      h(
        "div",
        { class: "honest" },
        h("span", { id: "honest" }, words.honest),
        withdrawButton(context, voice, "link", notes),
      ),
      notes,
      this.#live,
    );
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("input", () => this.#refresh());
    this.#send.addEventListener("click", () => (this.#talk.busy ? this.stop() : this.#ask()));
    // The field is as high as its text, which depends on how wide the frame became.
    new ResizeObserver(() => this.#refresh()).observe(this.#field);
    this.#greet();
    this.#refresh();
  }

  focus(): void {
    this.#field.focus({ preventScroll: true });
  }

  show(state: ModelState): void {
    this.#model = state;
    const { phase } = state;
    this.#download.hidden =
      phase === "ready" || phase === "stored" || phase === "load" || phase === "unknown";
    this.#waiting();
    this.scroll();
  }

  /** The window is on the screen: only now things have a size. */
  shown(): void {
    this.#refresh();
    this.scroll(true);
  }

  /** Down to the newest words, unless the visitor has gone up to read. */
  scroll(force = false): void {
    // In a low frame the whole card scrolls instead of the messages alone.
    const scroller = this.body.closest(".short .card") ?? this.body;
    const { scrollHeight, scrollTop, clientHeight } = scroller;
    if (force || scrollHeight - scrollTop - clientHeight < 80) {
      scroller.scrollTop = scrollHeight;
    }
  }

  /** An empty page, and nothing of the old one in what the model reads. */
  clear(): void {
    this.#talk.clear();
    this.#answer = null;
    put(this.#log);
    this.#greet();
    this.#refresh();
    this.focus();
  }

  stop(): void {
    this.#talk.stop();
  }

  #greet(): void {
    const { words, site } = this.#voice;
    const { drawnIn, siteOrigin } = this.#context;
    const apart = drawnIn === "frame" && location.origin !== siteOrigin;
    const reads = apart ? words.helloFrame : words.helloPage;
    put(
      this.#log,
      h("div", { class: "hello" }, mark(), h("h3", {}, words.hello), h("p", {}, fill(reads, { site }))),
    );
  }

  #key(event: KeyboardEvent): void {
    // While an input method composes, Enter belongs to it.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!this.#talk.busy) {
        this.#ask();
      }
    }
  }

  #ask(text = this.#field.value.trim()): void {
    if (text === "") {
      this.focus();
      return;
    }
    const { words } = this.#voice;
    this.#log.querySelector(".hello")?.remove();
    const answer = new Answer(this.#voice, () => this.scroll(), copy);
    this.#answer = answer;
    this.#log.append(question(text, this.#voice), answer.element);
    // A screen reader hears the whole answer at its end, not every word as it comes.
    this.#log.setAttribute("aria-busy", "true");
    this.#field.value = "";
    this.#actions.warm();
    this.#waiting();
    const over = () => {
      if (this.#answer === answer) {
        this.#answer = null;
        this.#log.removeAttribute("aria-busy");
        this.#live.textContent = "";
        this.#refresh();
      }
    };
    void this.#talk.ask(text, {
      delta: (piece) => {
        setText(this.#live, "");
        answer.add(piece);
      },
      done: (receipt, how) => {
        const notes = { whole: "", stopped: words.stopped, cut: words.cut };
        answer.done(receipt, this.#context.model.name, notes[how]);
        if (receipt !== null) {
          this.#actions.answered();
        }
        over();
      },
      failed: (error) => {
        answer.failed(error, this.#wayOut(error, answer, text));
        over();
      },
    });
    this.#refresh();
    this.scroll(true);
  }

  /** What helps: a new conversation where this one is too long, else the same question once more. */
  #wayOut(error: unknown, answer: Answer, text: string): HTMLElement {
    const { words } = this.#voice;
    const long = codeOf(error) === "contextTooLong" && !this.#talk.empty;
    const label = long ? words.newChat : words.tryAgain;
    const button = h(
      "button",
      { type: "button", class: "text-tool" },
      icon(long ? ICONS.plus : ICONS.undo),
      label,
    );
    button.addEventListener("click", () => {
      if (long) {
        this.clear();
        return;
      }
      answer.element.previousElementSibling?.remove();
      answer.element.remove();
      this.#ask(text);
      this.focus();
    });
    return button;
  }

  /** Why the answer has not begun yet. */
  #waiting(): void {
    if (this.#answer === null || this.#answer.written !== "") {
      return;
    }
    const { words, format } = this.#voice;
    const phase = this.#model?.phase;
    const fetching = phase === "fetch" || phase === "retry" || phase === "waiting" || phase === "paused";
    const text =
      fetching && this.#model !== null
        ? fill(words.waiting, { percent: format.percent(share(this.#model)) })
        : phase === "load" || phase === "stored"
          ? words.reading
          : words.thinking;
    this.#answer.wait(text);
    // Announced without the figure: a percentage read out every second is noise.
    setText(this.#live, fetching ? words.downloading : text);
  }

  #refresh(): void {
    const { words } = this.#voice;
    const { busy } = this.#talk;
    const name = busy ? words.stop : words.send;
    if (this.#send.getAttribute("aria-label") !== name) {
      this.#send.setAttribute("aria-label", name);
      this.#send.title = name;
      put(this.#send, icon(busy ? ICONS.stop : ICONS.send));
      this.#send.classList.toggle("stop", busy);
    }
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, 132)}px`;
  }
}

/**
 * The older way first: it needs only the click that led here, while the clipboard API needs a permission that
 * frames lack, and asking without it is reported as a violation on the site's console.
 */
async function copy(text: string): Promise<boolean> {
  const hand = (event: ClipboardEvent) => {
    event.clipboardData?.setData("text/plain", text);
    event.preventDefault();
  };
  document.addEventListener("copy", hand, { once: true });
  const copied = document.execCommand("copy");
  document.removeEventListener("copy", hand);
  if (copied) {
    return true;
  }
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
