/**
 * The consent panel: `<kwaainet-consent>`. Nothing is fetched, stored or computed before its Accept. It shows
 * the question, the choice per purpose, a pill (decide later), or the end of a withdrawal.
 */
import type { Mounted, PanelContext } from "../frame/contracts.js";
import type { Purpose } from "../protocol/types.js";
import { h, ICONS, icon, mark, put } from "../ui/dom.js";
import { Sizer, type Surface, surface } from "../ui/element.js";
import { Gate } from "./gate.js";
import { makeNotice, type Notice, noticeText } from "./notice.js";
import { makeRecord } from "./record.js";
import { STYLES } from "./styles.js";
import { type Choice, chooseView, doubtNote, questionView, type View, withdrawnView } from "./views.js";

/** Wide enough for three buttons side by side in German, small enough to leave the page to its reader. */
const WIDTH = 400;

/** What Accept means: the two purposes that its notice explains. Helping others is chosen on its own, or not at all. */
const ACCEPTED: readonly Purpose[] = ["runAi", "keepModel"];
const CHOICES: readonly Purpose[] = [...ACCEPTED, "helpOthers"];

type Name = "question" | "choose" | "pill" | "withdrawn";

export function mountConsentPanel(root: HTMLElement, context: PanelContext): Mounted {
  const panel = new ConsentPanel(context);
  root.append(panel.host);
  panel.start();
  return panel;
}

class ConsentPanel implements Mounted {
  readonly #context: PanelContext;
  readonly #notice: Notice;
  readonly #surface: Surface;
  readonly #sizer: Sizer;
  /** Outlives the views, so that a change of view is announced. */
  readonly #live = h("div", { class: "hide", role: "status" });
  readonly #notes = h("div", { role: "status" });
  readonly #chosen: Set<Purpose>;
  #gate: Gate | null = null;
  #name: Name = "question";
  #decided = false;

  constructor(context: PanelContext) {
    this.#context = context;
    this.#notice = makeNotice(context);
    // Off until switched on; a visitor who comes back to change finds what is in force.
    this.#chosen = new Set(CHOICES.filter((purpose) => context.current?.purposes.includes(purpose)));
    const { language, direction } = this.#notice;
    this.#surface = surface("kwaainet-consent", STYLES, language, direction);
    this.#surface.root.append(this.#live);
    this.#surface.host.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#name !== "pill") {
        event.preventDefault();
        this.#later();
      }
    });
    this.#sizer = new Sizer(this.#surface, (width, height) => {
      this.#gate?.disturb();
      context.layout({ mode: this.#name === "pill" ? "pill" : "panel", width, height });
    });
  }

  get host(): HTMLElement {
    return this.#surface.host;
  }

  start(): void {
    // The page is the visitor's: the panel appears without taking the focus, and says once that it is there.
    const { words } = this.#notice;
    if (this.#context.withdrawn === true) {
      this.#show("withdrawn", true);
    } else {
      this.#show("question", this.#context.current !== null);
      this.#live.textContent = words.appeared.replace("{title}", words.title);
    }
  }

  unmount(): void {
    this.#gate?.stop();
    this.#sizer.stop();
    this.#surface.host.remove();
  }

  #show(name: Name, focus: boolean): void {
    this.#name = name;
    this.#gate?.stop();
    this.#gate = null;
    this.#live.textContent = "";
    put(this.#notes);
    this.#sizer.forget();
    const drawn = name === "pill" ? this.#pill() : this.#card(this.#view(name));
    // Only the first card rises; later ones change in place, under a hand that may be about to press.
    drawn.classList.toggle("rise", this.#surface.stage.childElementCount === 0);
    put(this.#surface.stage, drawn);
    this.#sizer.want(name === "pill" ? drawn : WIDTH, "content");
    if (name !== "pill") {
      this.#gate = new Gate(drawn, this.#surface.host);
    }
    if (focus) {
      const target = name === "pill" ? drawn : drawn.querySelector<HTMLElement>("h2");
      target?.focus({ preventScroll: true });
    }
  }

  #view(name: "question" | "choose" | "withdrawn"): View {
    const show = (next: Name) => () => this.#show(next, true);
    const refuse = (event: Event) => this.#refuse(event);
    if (name === "withdrawn") {
      return withdrawnView(this.#notice, { close: refuse, again: show("question") });
    }
    if (name === "choose") {
      const save = (event: Event) => this.#agree(event, [...this.#chosen]);
      return chooseView(this.#notice, this.#chosen, { save, back: show("question") });
    }
    const accept = (event: Event) => this.#agree(event, ACCEPTED);
    return questionView(this.#context, this.#notice, { accept, reject: refuse, choose: show("choose") });
  }

  #card(view: View): HTMLElement {
    const closes = this.#name === "withdrawn" || this.#context.current !== null;
    const { words } = this.#notice;
    const scroll = h("div", { class: "scroll body" }, ...view.body);
    const close = h(
      "button",
      { type: "button", class: "tool", "aria-label": closes ? words.close : words.later },
      icon(closes ? ICONS.close : ICONS.minimise),
    );
    close.addEventListener("click", () => this.#later());
    const card = h(
      "section",
      { class: "card", role: "dialog", "aria-labelledby": "title", "aria-describedby": "lead" },
      h("div", { class: "head" }, mark(), h("h2", { id: "title", tabindex: -1 }, view.title), close),
      scroll,
      h(
        "div",
        { class: "foot" },
        this.#notes,
        h("div", { class: "choices" }, ...view.choices.map((choice) => this.#button(choice))),
      ),
    );
    const sizes = new ResizeObserver(() => {
      scrollable(scroll);
      scrollable(card);
    });
    sizes.observe(scroll);
    sizes.observe(card);
    return card;
  }

  #button(choice: Choice): HTMLElement {
    const button = h("button", { type: "button", class: "choice", id: choice.id }, choice.label);
    button.addEventListener("click", choice.press);
    return button;
  }

  #pill(): HTMLElement {
    const { words } = this.#notice;
    const pill = h("button", { type: "button", class: "pill" }, mark(), words.pill);
    pill.addEventListener("click", () => this.#show("question", true));
    return pill;
  }

  /** Closed without deciding: nothing changes, and the question stays within reach. */
  #later(): void {
    if (this.#name === "withdrawn" || this.#context.current !== null) {
      this.#decide(this.#context.current);
    } else {
      this.#show("pill", true);
    }
  }

  /** Saying no must never be hard: it needs a person, but not that the whole panel was seen. */
  #refuse(event: Event): void {
    if (event.isTrusted) {
      this.#decide(null);
    } else {
      this.#explain("untrusted");
    }
  }

  #agree(event: Event, purposes: readonly Purpose[]): void {
    if (purposes.length === 0) {
      this.#refuse(event);
      return;
    }
    const doubt = this.#gate?.doubt(event) ?? null;
    if (doubt !== null) {
      this.#explain(doubt);
      return;
    }
    if (this.#decided) {
      return;
    }
    this.#decided = true;
    const { language } = this.#notice;
    void makeRecord(purposes, noticeText(this.#notice), language).then((record) => {
      this.#context.decide(record);
    });
  }

  #decide(record: PanelContext["current"]): void {
    if (!this.#decided) {
      this.#decided = true;
      this.#context.decide(record);
    }
  }

  #explain(doubt: Parameters<typeof doubtNote>[0]): void {
    put(this.#notes, doubtNote(doubt, this.#notice));
    this.#sizer.update();
  }
}

/** What scrolls must be reachable by keyboard, and only then be a stop on the way (WCAG 2.1.1). */
function scrollable(element: HTMLElement): void {
  if (element.scrollHeight > element.clientHeight + 1) {
    element.tabIndex = 0;
  } else {
    element.removeAttribute("tabindex");
  }
}
