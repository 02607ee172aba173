/** What a site may ask for. It crosses from the site's page to our origin, so it is read with suspicion there. */
import type { KvFormat, NodeConfig, PolicyPack, Service } from "../protocol/types.js";

export type HostKind = "worker" | "service-worker" | "page";

/** Unset values take the node's defaults. */
export interface SiteOptions {
  readonly services?: readonly Service[];
  readonly privacyCompliance?: readonly PolicyPack[];
  /** Site and platform, in per cent. */
  readonly rewardSplit?: readonly [number, number];
  readonly maxResources?: ResourceOptions;
  readonly model?: string;
  /** Longest conversation plus answer, in tokens. */
  readonly contextLength?: number;
  readonly kvCache?: KvFormat;
  /** Addresses of peers that visitors who help others call first. */
  readonly bootstrap?: readonly string[];
  /** The site wants our assistant, drawn on our origin. Without it the site draws its own and reads the text. */
  readonly assistant?: boolean;
  readonly host?: HostKind;
  readonly siteId?: string;
  readonly greenBonus?: boolean;
}

export interface ResourceOptions {
  /** Per cent of all processors, 1 to 100. */
  readonly cpu?: number;
  /** MiB. */
  readonly memory?: number;
  /** MiB. */
  readonly storage?: number;
}

export const serviceNames: readonly Service[] = ["compute", "storage", "identity", "carbon"];
export const packNames: readonly PolicyPack[] = ["gdpr", "ccpa", "hipaa"];
export const hostNames: readonly HostKind[] = ["worker", "service-worker", "page"];
export const kvFormats: readonly KvFormat[] = ["f16", "q8"];
export const resourceNames = ["cpu", "memory", "storage"] as const;

/** As the node checks it. */
export const shortestContext = 64;
export const longestContext = 131_072;
export const isContext = (tokens: unknown): tokens is number =>
  isCount(tokens) && tokens >= shortestContext && tokens <= longestContext;

/** As the node checks them. */
export const mostBootstrap = 16;
export const peerAddress = /^\/[!-~]{1,440}\/p2p\/[1-9A-HJ-NP-Za-km-z]{20,64}$/;

const modelId = /^[a-z0-9._-]{1,96}$/;

/** Takes what is well formed and leaves the rest out: the other side has warned its developer already. */
export function readSiteOptions(data: unknown): SiteOptions {
  const from = isObject(data) ? data : {};
  const { services, privacyCompliance, rewardSplit, maxResources } = from;
  const { model, contextLength, kvCache, bootstrap, assistant, host, siteId, greenBonus } = from;
  return compact({
    services: namesOf(services, serviceNames),
    privacyCompliance: namesOf(privacyCompliance, packNames),
    rewardSplit: isShare(rewardSplit) ? rewardSplit : undefined,
    maxResources: isObject(maxResources) ? readResources(maxResources) : undefined,
    model: typeof model === "string" && modelId.test(model) ? model : undefined,
    contextLength: isContext(contextLength) ? contextLength : undefined,
    kvCache: kvFormats.find((name) => name === kvCache),
    bootstrap: readPeers(bootstrap),
    assistant: booleanOf(assistant),
    host: hostNames.find((name) => name === host),
    siteId: typeof siteId === "string" ? siteId.slice(0, 128) : undefined,
    greenBonus: booleanOf(greenBonus),
  });
}

/** The part of the options that the node is configured with. */
export function configOf(options: SiteOptions): NodeConfig {
  const { services, privacyCompliance, rewardSplit, maxResources } = options;
  const { model, contextLength, kvCache, bootstrap } = options;
  return compact({
    services: services && [...services],
    privacyCompliance: privacyCompliance && [...privacyCompliance],
    rewardSplit: rewardSplit && ([...rewardSplit] as [number, number]),
    maxResources: maxResources && { ...maxResources },
    model,
    contextLength,
    kvCache,
    bootstrap: bootstrap && [...bootstrap],
  });
}

function readPeers(from: unknown): string[] | undefined {
  if (!Array.isArray(from)) return undefined;
  return from
    .filter((peer): peer is string => typeof peer === "string" && peerAddress.test(peer))
    .slice(0, mostBootstrap);
}

function readResources(from: Record<string, unknown>): ResourceOptions {
  const entries = resourceNames.flatMap((name) => {
    const value = from[name];
    return isCount(value) ? [[name, value] as const] : [];
  });
  return Object.fromEntries(entries);
}

function namesOf<T extends string>(data: unknown, known: readonly T[]): T[] | undefined {
  return Array.isArray(data) ? known.filter((name) => data.includes(name)) : undefined;
}

function isShare(data: unknown): data is [number, number] {
  if (!Array.isArray(data) || data.length !== 2) return false;
  const [site, platform] = data;
  return isCount(site) && isCount(platform) && site + platform === 100;
}

function isCount(data: unknown): data is number {
  return typeof data === "number" && Number.isInteger(data) && data >= 0 && data <= 0xffff_ffff;
}

function booleanOf(data: unknown): boolean | undefined {
  return typeof data === "boolean" ? data : undefined;
}

export function isObject(data: unknown): data is Record<string, unknown> {
  return typeof data === "object" && data !== null && !Array.isArray(data);
}

type Compact<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** Without the keys that have no value: serde takes an absent field for its default, not `undefined`. */
export function compact<T extends object>(object: T): Compact<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Compact<T>;
}
