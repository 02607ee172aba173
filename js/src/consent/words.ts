import { panel as ar } from "../i18n/ar.js";
import { panel as de } from "../i18n/de.js";
import { panel as en } from "../i18n/en.js";
import { panel as es } from "../i18n/es.js";
import { panel as fr } from "../i18n/fr.js";
import type { Tag } from "../i18n/locale.js";
import type { PanelStrings } from "../i18n/strings.js";

/** The panel's words in each language. */
export const WORDS: Readonly<Record<Tag, PanelStrings>> = { ar, de, en, es, fr };
