import { assistant as ar } from "../i18n/ar.js";
import { assistant as de } from "../i18n/de.js";
import { assistant as en } from "../i18n/en.js";
import { assistant as es } from "../i18n/es.js";
import { assistant as fr } from "../i18n/fr.js";
import type { Tag } from "../i18n/locale.js";
import { type Format, isolate } from "../i18n/locale.js";
import type { AssistantStrings } from "../i18n/strings.js";
import type { ErrorCode } from "../protocol/types.js";

/** The assistant's words in each language. */
export const WORDS: Readonly<Record<Tag, AssistantStrings>> = { ar, de, en, es, fr };

/** Words, numbers and names of one visitor on one site; every view takes it. */
export interface Voice {
  readonly words: AssistantStrings;
  readonly format: Format;
  readonly site: string;
}

const CAUSES: Readonly<Partial<Record<ErrorCode, keyof AssistantStrings["errors"]>>> = {
  networkUnreachable: "network",
  storageFull: "storageFull",
  storageDenied: "storageDenied",
  outOfMemory: "memory",
  contextTooLong: "context",
  consentRequired: "consent",
  consentExpired: "consent",
  notAllowed: "consent",
  integrityFailed: "integrity",
  catalogueInvalid: "integrity",
  modelInvalid: "integrity",
  modelUnsupported: "unsupported",
  unsupported: "unsupported",
  hostBlocked: "unsupported",
  busy: "busy",
  storageInUse: "busy",
  interrupted: "interrupted",
};

/** What happened, as its code; an error of unknown make is ours. */
export function codeOf(error: unknown): ErrorCode {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? (code as ErrorCode) : "internal";
}

/** What to tell the visitor: what happened, and what to do. */
export function explain(error: unknown, { words }: Voice): string {
  return words.errors[CAUSES[codeOf(error)] ?? "other"];
}

/** The node's own words, for those who can use them: they name figures, in English. */
export function detail(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  return message === "" ? "" : isolate(message);
}
