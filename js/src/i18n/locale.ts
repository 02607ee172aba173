/** Chooses a language and writes numbers in it. Everything that counts or measures goes through Intl. */
import type { Plural } from "./strings.js";

export type Tag = "en" | "de" | "fr" | "es" | "ar";

/** The first language asked for that we write, else English. `de-AT` is German with Austria's numbers. */
export function pick(locales: readonly string[]): { tag: Tag; full: string; direction: "ltr" | "rtl" } {
  const known: readonly Tag[] = ["en", "de", "fr", "es", "ar"];
  for (const locale of locales) {
    const tag = known.find((candidate) => candidate === locale.toLowerCase().split("-")[0]);
    if (tag !== undefined) {
      return { tag, full: isLocale(locale) ? locale : tag, direction: tag === "ar" ? "rtl" : "ltr" };
    }
  }
  return { tag: "en", full: "en", direction: "ltr" };
}

function isLocale(locale: string): boolean {
  try {
    return Intl.getCanonicalLocales(locale).length > 0;
  } catch {
    return false;
  }
}

/** `fill("{n} of {m}", { n, m })`. Values are isolated, so that a Latin name does not disturb Arabic around it. */
export function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}

/** First strong isolate and its end (Unicode UAX 9): keeps `site.example` in one piece inside Arabic. */
export function isolate(text: string): string {
  return `\u2068${text}\u2069`;
}

/** What people call a site: its host. */
export function siteName(origin: string): string {
  try {
    return new URL(origin).host || origin;
  } catch {
    return origin;
  }
}

/** Numbers, sizes, times and dates of one language. */
export class Format {
  readonly #locale: string;

  constructor(locale: string) {
    this.#locale = locale;
  }

  number(value: number, digits = 0): string {
    return this.#write(value, { maximumFractionDigits: digits });
  }

  percent(share: number): string {
    return this.#write(share, { style: "percent", maximumFractionDigits: 0 });
  }

  /** Decimal units, as downloads and disks are sold: 98,362,432 bytes are 98 MB. */
  bytes(bytes: number, digits = 0): string {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
    let size = bytes;
    let step = 0;
    while (size >= 1000 && step < units.length - 1) {
      size /= 1000;
      step += 1;
    }
    const fraction = step === 3 ? 1 : digits;
    return this.#unit(size, units[step] ?? "byte", fraction, step === 0 ? "long" : "short");
  }

  /** In megabytes per second. */
  rate(bytesPerSecond: number): string {
    return this.#unit(bytesPerSecond / 1_000_000, "megabyte-per-second", 1, "short");
  }

  /** Memory in binary units, as it is sold: 1,024 MiB are 1 GB. */
  memory(mebibytes: number): string {
    return mebibytes < 1000
      ? this.#unit(mebibytes, "megabyte", 0, "short")
      : this.#unit(mebibytes / 1024, "gigabyte", 1, "short");
  }

  /** A wait, rounded to what a guess is worth: five seconds below a minute, then minutes. */
  wait(seconds: number): string {
    if (seconds < 60) {
      return this.#unit(Math.max(5, Math.ceil(seconds / 5) * 5), "second", 0, "long");
    }
    if (seconds < 5400) {
      return this.#unit(Math.round(seconds / 60), "minute", 0, "long");
    }
    return this.#unit(Math.round(seconds / 3600), "hour", 0, "long");
  }

  seconds(ms: number): string {
    return this.#unit(ms / 1000, "second", ms < 10_000 ? 1 : 0, "narrow");
  }

  date(ms: number): string {
    return new Intl.DateTimeFormat(this.#locale, { dateStyle: "long" }).format(ms);
  }

  dateTime(ms: number): string {
    return new Intl.DateTimeFormat(this.#locale, { dateStyle: "long", timeStyle: "short" }).format(ms);
  }

  list(items: readonly string[]): string {
    return new Intl.ListFormat(this.#locale, { type: "conjunction" }).format(items);
  }

  plural(forms: Plural, value: number): string {
    const rule = new Intl.PluralRules(this.#locale).select(value);
    return fill(forms[rule] ?? forms.other, { n: this.number(value) });
  }

  #unit(value: number, unit: string, digits: number, display: "narrow" | "short" | "long"): string {
    return this.#write(value, {
      style: "unit",
      unit,
      unitDisplay: display,
      maximumFractionDigits: digits,
    });
  }

  #write(value: number, options: Intl.NumberFormatOptions): string {
    return new Intl.NumberFormat(this.#locale, options).format(value);
  }
}
