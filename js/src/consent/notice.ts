/**
 * What the visitor is told, as data: the panel draws it, and the consent record names its SHA-256, so that it
 * can be proved later which words and figures were agreed to.
 */
import type { PanelContext } from "../frame/contracts.js";
import { Format, fill, isolate, pick, siteName } from "../i18n/locale.js";
import type { PanelStrings } from "../i18n/strings.js";
import type { ICONS } from "../ui/dom.js";
import { WORDS } from "./words.js";

export interface Fact {
  readonly icon: keyof typeof ICONS;
  readonly text: string;
}

export interface Notice {
  readonly words: PanelStrings;
  readonly format: Format;
  readonly language: string;
  readonly direction: "ltr" | "rtl";
  readonly lead: string;
  readonly facts: readonly Fact[];
  readonly runDetail: string;
  readonly keepDetail: string;
  /** Absent where the site names nobody to help with. */
  readonly helpDetail: string | null;
  readonly gpc: string | null;
}

/** Our own name on the first line of the notice: the host of this very window, or the project where it has none. */
function ourName(context: PanelContext): string {
  return context.drawnIn === "frame" && location.host !== "" ? location.host : "KwaaiNet";
}

export function makeNotice(context: PanelContext): Notice {
  const { tag, full, direction } = pick(context.locales);
  const words = WORDS[tag];
  const format = new Format(full);
  const { model, options } = context;
  const values = {
    site: isolate(siteName(context.siteOrigin)),
    us: isolate(ourName(context)),
    model: isolate(model.name),
    licence: isolate(model.licence),
    size: isolate(format.bytes(model.bytes)),
  };
  const say = (template: string) => fill(template, values);
  const own = options.assistant !== true;
  const facts: Fact[] = [
    { icon: "download", text: say(words.download) },
    { icon: "device", text: say(own ? words.runsOwn : words.runs) },
    { icon: "eye", text: say(own ? words.readOwn : reader(context, words)) },
    { icon: "gauge", text: caps(context, words, format, say) },
    { icon: "coin", text: say(words.money) },
    { icon: "undo", text: say(words.free) },
  ];
  return {
    words,
    format,
    language: tag,
    direction,
    lead: say(own ? words.leadOwn : words.leadAssistant),
    facts,
    runDetail: say(words.runDetail),
    keepDetail: say(words.keepDetail),
    helpDetail: helpDetail(context, words, format),
    gpc: context.gpc ? words.gpc : null,
  };
}

/** What a visitor's device sends to all peers together, in bytes per second (sdk-core/node/src/sharing/participate.rs). */
const LENT = 2 << 20;

function helpDetail({ options }: PanelContext, words: PanelStrings, format: Format): string | null {
  const { bootstrap = [] } = options;
  if (bootstrap.length === 0) return null;
  // `/dns4/peer.example.org/tcp/443/wss/p2p/…`: the second part says where.
  const hosts = new Set(bootstrap.map((address) => isolate(address.split("/")[2] ?? "")));
  const rate = isolate(format.rate(LENT));
  return fill(words.helpDetail, { rate, peers: format.list([...hosts]) });
}

function reader(context: PanelContext, words: PanelStrings): string {
  if (context.drawnIn === "page") {
    return words.readPage;
  }
  // A site that serves our files from its own origin can reach into the window.
  return location.origin === context.siteOrigin ? words.readSame : words.readFrame;
}

function caps(
  context: PanelContext,
  words: PanelStrings,
  format: Format,
  say: (template: string) => string,
): string {
  const { cpu, memory, storage } = context.options.maxResources ?? {};
  const asked: string[] = [];
  if (cpu !== undefined) {
    asked.push(fill(words.cpu, { percent: isolate(format.percent(cpu / 100)) }));
  }
  if (memory !== undefined) {
    asked.push(fill(words.memory, { size: isolate(format.memory(memory)) }));
  }
  if (storage !== undefined) {
    asked.push(fill(words.storage, { size: isolate(format.bytes(storage * 1_048_576)) }));
  }
  return asked.length === 0 ? say(words.capsNone) : fill(words.caps, { caps: format.list(asked) });
}

/** Both layers of the panel as one text, a line per sentence, in the order shown. */
export function noticeText(notice: Notice): string {
  const { words } = notice;
  return [
    words.title,
    notice.lead,
    ...notice.facts.map((fact) => fact.text),
    ...(notice.gpc === null ? [] : [notice.gpc]),
    `${words.accept} / ${words.reject} / ${words.choose}`,
    words.chooseTitle,
    words.chooseLead,
    `${words.run}: ${notice.runDetail}`,
    `${words.keep}: ${notice.keepDetail}`,
    ...(notice.helpDetail === null ? [] : [`${words.help}: ${notice.helpDetail}`]),
  ].join("\n");
}
