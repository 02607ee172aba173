/** What was agreed to, when, the receipt to keep, and the way out. */
import type { AssistantContext } from "../frame/contracts.js";
import { fill, isolate } from "../i18n/locale.js";
import { h, ICONS, icon, put } from "../ui/dom.js";
import { peersView } from "./peers-view.js";
import { explain, type Voice } from "./words.js";

export function settingsView(context: AssistantContext, voice: Voice): HTMLElement {
  const { words, format } = voice;
  const { record, model } = context;
  const size = isolate(format.bytes(model.bytes));
  const names: Partial<Record<string, string>> = {
    runAi: words.run,
    keepModel: words.keep,
    helpOthers: words.help,
  };
  const rows: [string, string][] = [
    [words.since, format.dateTime(record.grantedAtMs)],
    [words.until, format.date(record.expiresAtMs)],
    [words.site, voice.site],
    [words.model, `${isolate(model.name)} · ${size} · ${isolate(model.licence)}`],
    [words.receiptId, isolate(record.receiptId)],
  ];
  const notes = h("div", { role: "status" });
  const choice = (label: string, press: (event: Event) => void, id: string) => {
    const button = h("button", { type: "button", class: "choice", id }, label);
    button.addEventListener("click", press);
    return button;
  };
  const withdraw = withdrawButton(context, voice, "choice", notes);
  return h(
    "div",
    { class: "scroll body settings" },
    h("h3", {}, words.agreed),
    h(
      "ul",
      { class: "facts" },
      ...record.purposes.map((purpose) =>
        h("li", {}, icon(ICONS.check), h("span", {}, names[purpose] ?? purpose)),
      ),
    ),
    ...(record.purposes.includes("helpOthers") ? [peersView(context, voice)] : []),
    h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h(
      "div",
      { class: "choices" },
      choice(words.download, () => save(receiptOf(context)), "receipt"),
      choice(words.change, () => context.changeConsent(), "change"),
    ),
    h("p", { class: "small way-out" }, fill(words.withdrawDetail, { size })),
    h("div", { class: "choices" }, withdraw),
    notes,
  );
}

/** One press of it undoes what one press of Accept did, so it is wherever the visitor looks. */
export function withdrawButton(
  context: AssistantContext,
  voice: Voice,
  look: "choice" | "link",
  notes: HTMLElement,
): HTMLButtonElement {
  const { words, format } = voice;
  const title = fill(words.withdrawDetail, { size: isolate(format.bytes(context.model.bytes)) });
  const button = h("button", { type: "button", class: look, title }, words.withdraw);
  button.addEventListener("click", (event) => {
    // In page mode the site's script can reach and click this button; only a person may.
    if (event.isTrusted && !button.disabled) void leave(context, voice, button, notes);
  });
  return button;
}

async function leave(
  context: AssistantContext,
  voice: Voice,
  button: HTMLButtonElement,
  notes: HTMLElement,
): Promise<void> {
  button.disabled = true;
  put(button, voice.words.withdrawing);
  try {
    await context.withdraw();
  } catch (error) {
    button.disabled = false;
    put(button, voice.words.withdraw);
    put(notes, h("div", { class: "note" }, icon(ICONS.warn), h("span", {}, explain(error, voice))));
  }
}

/** The consent receipt as the visitor keeps it. Times in ISO 8601, so that people and programs can read them. */
export function receiptOf(context: AssistantContext): object {
  const { record, model, deployment } = context;
  return {
    type: "KwaaiNet consent receipt",
    version: 1,
    receiptId: record.receiptId,
    site: context.siteOrigin,
    purposes: record.purposes,
    language: record.language,
    grantedAt: new Date(record.grantedAtMs).toISOString(),
    expiresAt: new Date(record.expiresAtMs).toISOString(),
    noticeSha256: record.noticeDigest,
    model: { id: model.id, name: model.name, bytes: model.bytes, licence: model.licence },
    software: `KwaaiNet ${deployment.version}`,
  };
}

function save(receipt: object): void {
  const file = new Blob([`${JSON.stringify(receipt, null, 2)}\n`], { type: "application/json" });
  const url = URL.createObjectURL(file);
  h("a", { href: url, download: "kwaainet-consent-receipt.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
