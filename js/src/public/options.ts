import {
  compact,
  type HostKind,
  hostNames,
  isContext,
  isObject,
  kvFormats,
  longestContext,
  mostBootstrap,
  packNames,
  peerAddress,
  type ResourceOptions,
  resourceNames,
  type SiteOptions,
  serviceNames,
  shortestContext,
} from "../host/site-options.js";
import type { KvFormat, PolicyPack, Service } from "../protocol/types.js";

/** What `new KwaaiNet(...)` takes. Everything is optional; what is left out takes the node's defaults. */
export interface KwaaiNetOptions {
  /**
   * Where our files are served: the URL of the folder that holds `frame.html`. With the script tag it is the
   * script's own folder; with the npm package it has to be given.
   */
  readonly base?: string | URL;
  /** Parts of KwaaiNet that the site wants to use. */
  readonly services?: readonly Service[];
  /** Policy packs. They only tighten behaviour. */
  readonly privacyCompliance?: readonly PolicyPack[];
  /** Site and platform shares in per cent. Nothing is earned in this version. */
  readonly rewardSplit?: readonly [site: number, platform: number];
  /** Caps: per cent of all processors, MiB of memory, MiB of storage. */
  readonly maxResources?: ResourceOptions;
  /** Id of the model that answers when a request names none. */
  readonly model?: string;
  /** Longest conversation plus answer, in tokens: 64 to 131072. Every token takes memory within the cap. */
  readonly contextLength?: number;
  /** How a conversation is remembered: `f16`, or `q8` with half the memory, a little less exact. */
  readonly kvCache?: KvFormat;
  /**
   * Addresses of peers, as `kwaainet peer` prints them. Visitors are then offered to help others: those who agree pass the
   * model on and fetch it from peers. Browsers reach peers over WebSocket, so use addresses with `/ws` or `/wss`.
   */
  readonly bootstrap?: readonly string[];
  /** Shows our assistant, drawn on our origin, where the site cannot read what the visitor writes. */
  readonly assistant?: boolean;
  /** Where the node runs: a worker in our frame (default), our service worker, or the site's page. */
  readonly host?: HostKind;
  /**
   * Self-hosted sites only: path of a service worker at the site's root that holds the one line
   * `importScripts("/kwaainet/kwaainet-sw.js")`. It answers `/kwaainet/v1/...` on the site's pages.
   */
  readonly serviceWorker?: string;
  /** The site's id for rewards. */
  readonly siteId?: string;
  /** The site runs on renewable energy. */
  readonly greenBonus?: boolean;
}

/** Options that were checked, and what the developer should be told about the others. */
export interface CheckedOptions {
  readonly base: string | undefined;
  readonly serviceWorker: string | undefined;
  readonly site: SiteOptions;
  readonly problems: readonly string[];
}

const optionNames = [
  "base",
  "services",
  "privacyCompliance",
  "rewardSplit",
  "maxResources",
  "model",
  "contextLength",
  "kvCache",
  "bootstrap",
  "assistant",
  "host",
  "serviceWorker",
  "siteId",
  "greenBonus",
] as const;

/** Values as typed, or as the text of a `data-*` attribute. `label` tells how the developer wrote a name. */
export function checkOptions(raw: Record<string, unknown>, label = (name: string) => name): CheckedOptions {
  const problems: string[] = [];
  const { base, services, privacyCompliance, rewardSplit, maxResources } = raw;
  const { model, contextLength, kvCache, bootstrap, assistant, host, serviceWorker, siteId, greenBonus } =
    raw;
  for (const name of Object.keys(raw)) {
    if (!optionNames.some((known) => known === name)) {
      problems.push(`unknown option ${label(name)}${didYouMean(label(name), optionNames.map(label))}`);
    }
  }
  const names = <T extends string>(option: string, value: unknown, known: readonly T[]): T[] | undefined => {
    if (value === undefined) return undefined;
    const list = typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [value];
    return list.flatMap((item: unknown) => {
      const name = String(item).trim().toLowerCase();
      const found = known.find((candidate) => candidate === name);
      if (found === undefined && name !== "") problems.push(unknownValue(label(option), name, known));
      return found === undefined ? [] : [found];
    });
  };
  const text = (option: string, value: unknown, pattern: RegExp, hint: string): string | undefined => {
    if (value === undefined) return undefined;
    if ((typeof value === "string" || value instanceof URL) && pattern.test(String(value)))
      return String(value);
    problems.push(`${label(option)}: ${hint}`);
    return undefined;
  };
  const flag = (option: string, value: unknown): boolean | undefined => {
    if (value === undefined || typeof value === "boolean") return value;
    // An attribute without a value is set.
    if (value === "" || value === "true") return true;
    if (value === "false") return false;
    problems.push(`${label(option)}: write true or false`);
    return undefined;
  };
  const site = compact({
    services: names("services", services, serviceNames),
    privacyCompliance: names("privacyCompliance", privacyCompliance, packNames),
    rewardSplit: readSplit(rewardSplit, () =>
      problems.push(`${label("rewardSplit")}: write two whole numbers that add up to 100, such as 70/30`),
    ),
    maxResources: readCaps(maxResources, label("maxResources"), problems),
    model: text(
      "model",
      model,
      /^[a-z0-9._-]{1,96}$/,
      "a model's id has lower-case letters, digits, dots and dashes",
    ),
    contextLength: readContext(contextLength, () =>
      problems.push(
        `${label("contextLength")}: write a whole number of tokens, ${shortestContext} to ${longestContext}`,
      ),
    ),
    bootstrap: readPeers(bootstrap, label("bootstrap"), problems),
    kvCache: names("kvCache", kvCache, kvFormats)?.[0],
    assistant: flag("assistant", assistant),
    host: names("host", host, hostNames)?.[0],
    siteId: text("siteId", siteId, /^.{1,128}$/, "write 1 to 128 characters"),
    greenBonus: flag("greenBonus", greenBonus),
  });
  return {
    base: text("base", base, /./, "write the URL of the folder that holds frame.html"),
    serviceWorker: text("serviceWorker", serviceWorker, /./, "write a path such as /kwaainet-sw.js"),
    site,
    problems,
  };
}

function readSplit(value: unknown, complain: () => void): [number, number] | undefined {
  if (value === undefined) return undefined;
  const parts: unknown[] = typeof value === "string" ? value.split("/") : Array.isArray(value) ? value : [];
  const [site, platform] = parts.map((part) => Number(part));
  const whole = Number.isInteger(site) && Number.isInteger(platform) && parts.length === 2;
  if (
    whole &&
    site !== undefined &&
    platform !== undefined &&
    Math.min(site, platform) >= 0 &&
    site + platform === 100
  ) {
    return [site, platform];
  }
  complain();
  return undefined;
}

function readPeers(value: unknown, label: string, problems: string[]): string[] | undefined {
  if (value === undefined) return undefined;
  const list: unknown[] =
    typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [value];
  const peers = list.map((item) => String(item).trim()).filter((item) => item !== "");
  if (peers.length > mostBootstrap) problems.push(`${label}: name ${mostBootstrap} peers at most`);
  return peers.slice(0, mostBootstrap).filter((peer) => {
    const good = peerAddress.test(peer);
    const example = "/dns4/peer.example.org/tcp/443/wss/p2p/12D3KooW…";
    if (!good)
      problems.push(`${label}: ${peer.slice(0, 100)} is no peer's address, write one such as ${example}`);
    return good;
  });
}

function readContext(value: unknown, complain: () => void): number | undefined {
  if (value === undefined) return undefined;
  const tokens = value === "" ? Number.NaN : Number(value);
  if (isContext(tokens)) return tokens;
  complain();
  return undefined;
}

function readCaps(value: unknown, label: string, problems: string[]): ResourceOptions | undefined {
  if (value === undefined) return undefined;
  const pairs =
    typeof value === "string"
      ? value.split(",").map((pair) => pair.split(":").map((part) => part.trim()))
      : Object.entries(isObject(value) ? value : {});
  const caps: Partial<Record<(typeof resourceNames)[number], number>> = {};
  for (const [name = "", amount] of pairs) {
    const known = resourceNames.find((candidate) => candidate === name);
    const number = Number(amount);
    if (known === undefined) problems.push(unknownValue(label, String(name), resourceNames));
    else if (
      amount === "" ||
      !Number.isInteger(number) ||
      number < 0 ||
      (known === "cpu" && (number < 1 || number > 100))
    ) {
      const range = known === "cpu" ? "1 to 100 (per cent of all processors)" : "a whole number of MiB";
      problems.push(`${label}: ${known}:${String(amount)} is out of range, write ${range}`);
    } else caps[known] = number;
  }
  return caps;
}

function unknownValue(label: string, value: string, known: readonly string[]): string {
  return `${label}: unknown value ${value}${didYouMean(value, known)}`;
}

function didYouMean(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined ? ` (known: ${known.join(", ")})` : `; did you mean ${near}?`;
}

/** The known name with the smallest edit distance, if that is at most a third of its length or 2. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best !== undefined && least <= Math.max(2, Math.floor(best.length / 3)) ? best : undefined;
}

/** Levenshtein's distance, one row at a time (Wagner and Fischer 1974). Names are cut at 64 characters. */
export function editDistance(a: string, b: string): number {
  const [from, to] = [a.slice(0, 64), b.slice(0, 64)];
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries()) {
      const [left = 0, above = 0, corner = 0] = [next[j], row[j + 1], row[j]];
      next.push(Math.min(left + 1, above + 1, corner + (letter === other ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
