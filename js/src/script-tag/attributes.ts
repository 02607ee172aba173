import type { KwaaiNetOptions } from "../public/index.js";
import { checkOptions } from "../public/options.js";

/** The folder of the script; an immutable copy in `v1.2.3/` belongs to the folder above. */
export function baseOf(src: string): string {
  return new URL(src).href.replace(/[?#].*$/, "").replace(/(\/v\d+\.\d+\.\d+[^/]*)?\/[^/]*$/, "/");
}

/** `data-*` names of the specification that do not follow from the option's name. */
const renamed: Readonly<Record<string, string>> = { privacyCompliant: "privacyCompliance" };
const attributeOf = (option: string): string => {
  const name = Object.entries(renamed).find(([, target]) => target === option)?.[0] ?? option;
  return `data-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
};

export interface Attributes {
  readonly options: KwaaiNetOptions;
  /** The page makes its own instances. */
  readonly manual: boolean;
  readonly problems: readonly string[];
}

/** Reads `data-*`; what is wrong is left out and named. */
export function readAttributes(
  dataset: Readonly<Record<string, string | undefined>>,
  base: string,
): Attributes {
  const { manual, ...others } = dataset;
  const raw = Object.fromEntries(
    Object.entries(others).map(([name, value]) => [renamed[name] ?? name, value]),
  );
  const { base: own, serviceWorker, site, problems } = checkOptions({ base, ...raw }, attributeOf);
  const options = { base: own ?? base, ...site, ...(serviceWorker === undefined ? {} : { serviceWorker }) };
  return { options, manual: manual !== undefined && manual !== "false", problems };
}
