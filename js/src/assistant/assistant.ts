/**
 * The assistant: `<kwaainet-assistant>`. It follows the model's way to this device, holds a conversation with it,
 * and is where consent is read and withdrawn. Without `options.assistant` it does all but the conversation.
 */
import type { AssistantContext, MountAssistant, MountedAssistant } from "../frame/contracts.js";
import { Format, isolate, pick, siteName } from "../i18n/locale.js";
import { h, ICONS, icon, mark, put, setText } from "../ui/dom.js";
import { Sizer, type Surface, surface } from "../ui/element.js";
import { ChatView } from "./chat-view.js";
import { type ModelState, ModelWatch } from "./model-watch.js";
import { pill } from "./pill.js";
import { ProgressView } from "./progress-view.js";
import { settingsView } from "./settings-view.js";
import { STYLES } from "./styles.js";
import { type Voice, WORDS } from "./words.js";

const WIDTH = 400;
const HEIGHT = 600;
/** How long the good news stays before the card makes room, if nobody is about to use it. */
const READY_MS = 8000;

type Name = "pill" | "progress" | "chat" | "settings";

export const mountAssistant: MountAssistant = (root, context) => {
  const assistant = new Assistant(context);
  root.append(assistant.host);
  assistant.start();
  return assistant;
};

class Assistant implements MountedAssistant {
  readonly #context: AssistantContext;
  readonly #voice: Voice;
  readonly #surface: Surface;
  readonly #sizer: Sizer;
  readonly #watch: ModelWatch;
  readonly #progress: ProgressView;
  readonly #chat: ChatView;
  /** The site wants our chat; otherwise only progress and settings are drawn. */
  readonly #talks: boolean;
  #name: Name = "pill";
  #leaving: ReturnType<typeof setTimeout> | undefined;

  constructor(context: AssistantContext) {
    this.#context = context;
    this.#talks = context.options.assistant === true;
    const { tag, full, direction } = pick(context.locales);
    this.#voice = {
      words: WORDS[tag],
      format: new Format(full),
      site: isolate(siteName(context.siteOrigin)),
    };
    this.#surface = surface("kwaainet-assistant", STYLES, tag, direction);
    this.#surface.host.addEventListener("keydown", (event) => this.#key(event));
    this.#sizer = new Sizer(this.#surface, (width, height) => {
      const tall = this.#name === "chat" || (this.#name === "settings" && this.#talks);
      const mode = this.#name === "pill" ? "pill" : tall ? "assistant" : "panel";
      context.layout({ mode, width, height });
    });
    this.#watch = new ModelWatch(context.client, context.model, (state) => this.#changed(state));
    this.#progress = new ProgressView(this.#voice, {
      pause: () => {
        this.#chat.stop();
        this.#watch.pause();
      },
      resume: () => void this.#watch.fetch(),
    });
    this.#chat = new ChatView(context, this.#voice, this.#progress, {
      warm: () => void this.#watch.fetch(),
      answered: () => this.#watch.answered(),
    });
  }

  get host(): HTMLElement {
    return this.#surface.host;
  }

  start(): void {
    if (this.#context.justAgreed === true) {
      this.#show("progress", document.hasFocus());
      void this.#watch.fetch();
      return;
    }
    this.#show("pill", false);
    void this.#watch.look().then(() => {
      // A fetch that a reload or a cut interrupted goes on; one that never began, or was not to be kept, waits.
      const { phase, done } = this.#watch.state;
      if (phase === "waiting" && done > 0 && this.#context.purposes.includes("keepModel")) {
        void this.#watch.fetch();
      }
    });
  }

  open(): void {
    if (this.#name === "pill" || this.#name === "progress") {
      this.#show(this.#talks ? "chat" : "settings", true);
    }
  }

  close(): void {
    if (this.#name !== "pill") {
      this.#show("pill", false);
    }
  }

  unmount(): void {
    clearTimeout(this.#leaving);
    this.#chat.stop();
    this.#watch.stop();
    this.#sizer.stop();
    this.#surface.host.remove();
  }

  #show(name: Name, focus: boolean): void {
    clearTimeout(this.#leaving);
    const before = this.#name;
    this.#name = name;
    this.#sizer.forget();
    const { stage } = this.#surface;
    const drawn = this.#draw(name);
    drawn.classList.toggle("rise", stage.childElementCount === 0 || before === "pill");
    put(stage, drawn);
    if (name === "pill") {
      this.#sizer.want(drawn, "content");
    } else {
      const tall = name === "chat" || (name === "settings" && this.#talks);
      this.#sizer.want(WIDTH, tall ? HEIGHT : "content");
    }
    if (name === "chat") {
      void this.#warm();
      this.#chat.shown();
    }
    if (focus) {
      this.#focus(name, drawn);
    }
  }

  #focus(name: Name, drawn: HTMLElement): void {
    if (name === "chat") {
      this.#chat.focus();
    } else if (name === "pill") {
      drawn.focus({ preventScroll: true });
    } else {
      drawn.querySelector<HTMLElement>("h2")?.focus({ preventScroll: true });
    }
  }

  #draw(name: Name): HTMLElement {
    const { words } = this.#voice;
    const { state } = this.#watch;
    if (name === "pill") {
      return pill(state, this.#voice, !this.#talks, () => this.#show(this.#afterPill(), true));
    }
    if (name === "progress") {
      return this.#progressCard();
    }
    const close = this.#tool(words.minimise, ICONS.minimise, () => this.#show("pill", true));
    if (name === "settings") {
      const back = this.#tool(words.back, ICONS.back, () => this.#show("chat", true));
      back.classList.add("flip");
      const parts = this.#talks
        ? [back, title(words.settings), close]
        : [mark(), title(words.settings), close];
      return this.#card(words.settings, ["head"], parts, [settingsView(this.#context, this.#voice)]);
    }
    const names = h("div", { class: "names" }, title(words.name), h("p", {}, words.subtitle));
    const fresh = this.#tool(words.newChat, ICONS.plus, () => this.#chat.clear());
    const settings = this.#tool(words.settings, ICONS.settings, () => this.#show("settings", true));
    this.#progress.show(state);
    this.#chat.show(state);
    const parts = [mark(), names, fresh, settings, close];
    return this.#card(words.name, ["head", "ruled"], parts, [this.#chat.body, this.#chat.foot]);
  }

  #card(
    name: string,
    head: readonly string[],
    top: readonly Element[],
    rest: readonly Element[],
  ): HTMLElement {
    const tall = this.#talks && this.#name !== "progress";
    return h(
      "section",
      { class: tall ? "card tall" : "card", role: "dialog", "aria-label": name },
      h("div", { class: head.join(" ") }, ...top),
      ...rest,
    );
  }

  #tool(name: string, path: string, press: () => void): HTMLButtonElement {
    const button = h(
      "button",
      { type: "button", class: "tool", "aria-label": name, title: name },
      icon(path),
    );
    button.addEventListener("click", press);
    return button;
  }

  #progressCard(): HTMLElement {
    const { words } = this.#voice;
    const { state } = this.#watch;
    const hide = this.#tool(words.hide, ICONS.minimise, () => this.#show("pill", true));
    if (state.phase === "ready") {
      const open = h("button", { type: "button", class: "choice" }, words.ask);
      open.addEventListener("click", () => this.open());
      const done = this.#talks ? words.ready : words.readyOwn;
      const kept = this.#context.purposes.includes("keepModel") ? words.readyKept : "";
      return this.#card(
        done,
        ["head"],
        [mark(), title(done), hide],
        [
          h(
            "div",
            { class: "body" },
            kept === "" ? null : h("p", { class: "small" }, kept),
            this.#talks ? h("div", { class: "choices way-out" }, open) : null,
          ),
        ],
      );
    }
    this.#progress.show(state);
    const heading = state.phase === "failed" ? words.failed : words.downloading;
    return this.#card(
      heading,
      ["head"],
      [mark(), title(heading), hide],
      [h("div", { class: "body" }, this.#progress.element, h("p", { class: "small" }, words.browseOn))],
    );
  }

  /** The settings of a site that talks for itself; the progress where it still needs attention; else the chat. */
  #afterPill(): Name {
    if (this.#talks) {
      return "chat";
    }
    const { phase } = this.#watch.state;
    const moving = phase === "fetch" || phase === "retry" || phase === "paused" || phase === "failed";
    return moving ? "progress" : "settings";
  }

  /** The visitor opened the chat: what is on the device is read into memory, what was begun is fetched. */
  async #warm(): Promise<void> {
    if (this.#watch.state.phase === "unknown") {
      await this.#watch.look();
    }
    const { phase } = this.#watch.state;
    if (phase === "stored" || phase === "waiting") {
      await this.#watch.fetch();
    }
  }

  #changed(state: ModelState): void {
    const { stage } = this.#surface;
    if (this.#name === "pill") {
      const drawn = stage.firstElementChild;
      const fresh = this.#draw("pill");
      if (drawn !== null && drawn.textContent !== fresh.textContent) {
        const focused = this.#surface.root.activeElement === drawn;
        put(stage, fresh);
        this.#sizer.want(fresh, "content");
        if (focused) {
          fresh.focus({ preventScroll: true });
        }
      }
    } else if (this.#name === "progress") {
      this.#progress.show(state);
      const heading = state.phase === "failed" ? this.#voice.words.failed : this.#voice.words.downloading;
      const shown = stage.querySelector("h2");
      if (state.phase === "ready") {
        this.#show("progress", this.#surface.root.activeElement !== null);
        this.#leaveSoon();
      } else if (shown !== null) {
        setText(shown, heading);
        this.#sizer.update();
      }
    } else if (this.#name === "chat") {
      this.#progress.show(state);
      this.#chat.show(state);
    }
  }

  #leaveSoon(): void {
    this.#leaving = setTimeout(() => {
      const { root, host } = this.#surface;
      if (this.#name === "progress" && root.activeElement === null && !host.matches(":hover")) {
        this.#show("pill", false);
      }
    }, READY_MS);
  }

  #key(event: KeyboardEvent): void {
    if (event.key !== "Escape" || event.isComposing || this.#name === "pill") {
      return;
    }
    event.preventDefault();
    this.#show(this.#name === "settings" && this.#talks ? "chat" : "pill", true);
  }
}

function title(text: string): HTMLElement {
  return h("h2", { tabindex: -1 }, text);
}
