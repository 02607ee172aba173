/** What the panel draws: title, body and buttons of each view. Behaviour stays in `panel.ts`. */
import type { PanelContext } from "../frame/contracts.js";
import { fill, isolate } from "../i18n/locale.js";
import type { Purpose } from "../protocol/types.js";
import { h, ICONS, icon, setText } from "../ui/dom.js";
import type { Doubt } from "./gate.js";
import type { Notice } from "./notice.js";

export interface Choice {
  readonly id: string;
  readonly label: string;
  readonly press: (event: Event) => void;
}

export interface View {
  readonly title: string;
  readonly body: readonly HTMLElement[];
  /** All drawn alike: the same size, colour and kind of button, whatever they do. */
  readonly choices: readonly Choice[];
}

interface Presses {
  readonly [name: string]: (event: Event) => void;
}

export function questionView(
  context: PanelContext,
  notice: Notice,
  press: Presses & Record<"accept" | "reject" | "choose", (event: Event) => void>,
): View {
  const { words } = notice;
  const body = [
    h("p", { class: "lead", id: "lead" }, notice.lead),
    ...(context.current === null
      ? []
      : [inForce(context.current.grantedAtMs, context.current.expiresAtMs, notice)]),
    h(
      "ul",
      { class: "facts" },
      ...notice.facts.map((fact) => h("li", {}, icon(ICONS[fact.icon]), h("span", {}, fact.text))),
      ...(notice.gpc === null ? [] : [h("li", {}, icon(ICONS.shield), h("span", {}, notice.gpc))]),
    ),
  ];
  return {
    title: context.current === null ? words.title : words.titleChange,
    body,
    choices: [
      { id: "accept", label: words.accept, press: press.accept },
      { id: "reject", label: words.reject, press: press.reject },
      { id: "choose", label: words.choose, press: press.choose },
    ],
  };
}

function inForce(since: number, until: number, notice: Notice): HTMLElement {
  const { words, format } = notice;
  const date = (template: string, ms: number) => fill(template, { date: isolate(format.date(ms)) });
  return h("p", { class: "small" }, `${date(words.now, since)} ${date(words.nowUntil, until)}`);
}

export function chooseView(
  notice: Notice,
  chosen: Set<Purpose>,
  press: Record<"save" | "back", (event: Event) => void>,
): View {
  const { words } = notice;
  const hint = h("p", { class: "small", role: "status" });
  const run = toggle("run", words.run, notice.runDetail, notice, chosen.has("runAi"));
  const keep = toggle("keep", words.keep, notice.keepDetail, notice, chosen.has("keepModel"));
  const help =
    notice.helpDetail === null
      ? null
      : toggle("help", words.help, notice.helpDetail, notice, chosen.has("helpOthers"));
  const switches = help === null ? [run, keep] : [run, keep, help];
  const follow = () => {
    // A kept model that may not run would be of no use: the second switch waits for the first.
    keep.input.disabled = !run.input.checked;
    if (!run.input.checked) {
      keep.input.checked = false;
    }
    set(chosen, "runAi", run.input.checked);
    set(chosen, "keepModel", keep.input.checked);
    if (help !== null) {
      // What is not kept cannot be passed on.
      help.input.disabled = !keep.input.checked;
      if (!keep.input.checked) {
        help.input.checked = false;
      }
      set(chosen, "helpOthers", help.input.checked);
    }
    for (const each of switches) {
      each.refresh();
    }
    setText(hint, chosen.size === 0 ? words.nothingOn : "");
  };
  for (const { input } of switches) {
    input.addEventListener("change", follow);
  }
  follow();
  return {
    title: words.chooseTitle,
    body: [
      h("p", { class: "lead", id: "lead" }, words.chooseLead),
      h("div", { class: "switches" }, ...switches.map(({ row }) => row)),
      hint,
      ...(notice.gpc === null ? [] : [h("p", { class: "small" }, notice.gpc)]),
    ],
    choices: [
      { id: "save", label: words.save, press: press.save },
      { id: "back", label: words.back, press: press.back },
    ],
  };
}

function set<T>(of: Set<T>, value: T, present: boolean): void {
  if (present) {
    of.add(value);
  } else {
    of.delete(value);
  }
}

interface Toggle {
  readonly row: HTMLElement;
  readonly input: HTMLInputElement;
  /** Writes On or Off beside the switch: its colour alone must not carry that. */
  refresh(): void;
}

function toggle(id: string, name: string, detail: string, notice: Notice, on: boolean): Toggle {
  const { words } = notice;
  const input = h("input", { type: "checkbox", role: "switch", id, "aria-describedby": `${id}-detail` });
  input.checked = on;
  const state = h("span", { "aria-hidden": "true" });
  const row = h(
    "label",
    { class: "switch", for: id },
    h("b", {}, name),
    h("small", { id: `${id}-detail` }, detail),
    h("span", { class: "state" }, input, state),
  );
  // The name is the bold line alone; without this the label's whole text would be read as the name.
  input.setAttribute("aria-label", name);
  return { row, input, refresh: () => setText(state, input.checked ? words.on : words.off) };
}

export function withdrawnView(
  notice: Notice,
  press: Record<"close" | "again", (event: Event) => void>,
): View {
  const { words } = notice;
  return {
    title: words.withdrawnTitle,
    body: [h("p", { class: "lead", id: "lead", role: "status" }, words.withdrawn)],
    choices: [
      { id: "close", label: words.close, press: press.close },
      { id: "again", label: words.again, press: press.again },
    ],
  };
}

/** Why a click did not count. Polite: the visitor did nothing wrong. */
export function doubtNote(doubt: Doubt, notice: Notice): HTMLElement {
  return h("div", { class: "note" }, icon(ICONS.warn), h("span", {}, notice.words[doubt]));
}
