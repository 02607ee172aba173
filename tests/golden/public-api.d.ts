// public/index.ts
/** The public API of @kwaainet/sdk; nothing else is. */
export { KwaaiNetError } from "../protocol/errors.js";
export type { ChatCompletion, ChatCompletionChoice, ChatCompletionChunk, ChatCompletionChunkChoice, ChatCompletionMessage, CompletionExtra, CompletionFinishReason, CompletionUsage, Model, ModelList, } from "../protocol/openai.js";
export type { ChatCompletionChunkToolCall, ChatCompletionTool, ChatCompletionToolChoice, } from "../protocol/tools.js";
export type { Capabilities, ChatMessage, Content, ContentPart, ErrorCode, FunctionCall, HostReport, Missing, ModelStatus, NetworkState, NetworkStatus, PeerStatus, PolicyPack, PrivacyMode, Progress, Purpose, Receipt, ResourceLimits, Role, Service, Stage, Tier, ToolCall, Via, } from "../protocol/types.js";
export type { Chat, ChatCompletionParams, ChatCompletionPlainParams, ChatCompletionStream, ChatCompletionStreamingParams, ChatCompletions, RequestOptions, } from "./chat.js";
export type { ConsentStatus, KwaaiNetEvents } from "./events.js";
export type { Assistant, Consent, Models, Network } from "./kwaainet.js";
export { KwaaiNet } from "./kwaainet.js";
export type { KwaaiNetOptions } from "./options.js";

// public/kwaainet.ts
import { type ModelList } from "../protocol/openai.js";
import type { Capabilities, NetworkStatus, PeerStatus } from "../protocol/types.js";
import { type Chat } from "./chat.js";
import { type ConsentStatus, type KwaaiNetEvents } from "./events.js";
import { type KwaaiNetOptions } from "./options.js";
export interface Consent {
    /** Opens the panel, also to change or withdraw what was agreed to; resolves with what is in force then. */
    ask(): Promise<ConsentStatus>;
    /** What is in force, as far as this page knows. */
    status(): ConsentStatus;
}
export interface Assistant {
    open(): void;
    close(): void;
}
export interface Models {
    /** The models of the deployment and what of them is on this device. Needs consent. */
    list(): Promise<ModelList>;
}
/** Other visitors and peers, for those who agreed to help others. What the visitor writes is never sent there. */
export interface Network {
    /**
     * Joins, and resolves when somebody is connected. Visitors who agreed to help others join by themselves if the option
     * `bootstrap` names peers; `peers` are more of them.
     */
    join(peers?: readonly string[]): Promise<NetworkStatus>;
    /** Leaves, until `join` is called. */
    leave(): Promise<void>;
    status(): Promise<NetworkStatus>;
    /** Everybody who is connected, how, and how much was said. Where they are is not for sites to know. */
    peers(): Promise<readonly PeerStatus[]>;
}
/** A private AI on this page: the model runs on the visitor's device, after the visitor agreed. */
export declare class KwaaiNet {
    #private;
    readonly chat: Chat;
    readonly models: Models;
    readonly consent: Consent;
    readonly assistant: Assistant;
    /** Its status changes with the event `network`. */
    readonly network: Network;
    constructor(options?: KwaaiNetOptions);
    /** Makes the frame and waits for its answer. Nothing is fetched, stored or computed before the visitor agrees. */
    initialize(): Promise<void>;
    on<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): this;
    off<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): this;
    /** What this device and browser offer, and what is done instead of what they lack. Needs consent. */
    capabilities(): Promise<Capabilities>;
}

// public/options.ts
import { type HostKind, type ResourceOptions, type SiteOptions } from "../host/site-options.js";
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
/** Values as typed, or as the text of a `data-*` attribute. `label` tells how the developer wrote a name. */
export declare function checkOptions(raw: Record<string, unknown>, label?: (name: string) => string): CheckedOptions;
/** The known name with the smallest edit distance, if that is at most a third of its length or 2. */
export declare function nearest(name: string, known: readonly string[]): string | undefined;
/** Levenshtein's distance, one row at a time (Wagner and Fischer 1974). Names are cut at 64 characters. */
export declare function editDistance(a: string, b: string): number;

// public/events.ts
import { KwaaiNetError } from "../protocol/errors.js";
import type { ModelStatus, NetworkStatus, Progress, Purpose } from "../protocol/types.js";
/** What the visitor agreed to; empty where nothing was. */
export interface ConsentStatus {
    readonly purposes: readonly Purpose[];
}
export interface KwaaiNetEvents {
    /** The host answered. Nothing is fetched or stored yet, unless the visitor agreed at an earlier visit. */
    ready: ConsentStatus;
    /** The visitor agreed, refused, changed or withdrew. */
    consent: ConsentStatus;
    /** A model is being fetched or loaded. */
    progress: Progress;
    /** A model's state on this device changed. */
    model: ModelStatus;
    /** Peers came or went, or something was said to them; at most once a second. */
    network: NetworkStatus;
    /** Something that a developer should know. */
    warning: {
        readonly message: string;
    };
    /** Something failed outside of a call. */
    error: KwaaiNetError;
    /** Accepted, and never fired in this version: nothing is earned. */
    earnings: never;
    /** Accepted, and never fired in this version: nothing is measured. */
    environmentalImpact: never;
}
export declare class Emitter {
    #private;
    on<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): void;
    off<E extends keyof KwaaiNetEvents>(event: E, listener: (value: KwaaiNetEvents[E]) => void): void;
    /** Whether anybody listened. A listener that throws does not keep the others from being told. */
    emit<E extends keyof KwaaiNetEvents>(event: E, value: KwaaiNetEvents[E]): boolean;
}

// public/chat.ts
import type { NodeClient } from "../protocol/client.js";
import { type ChatCompletion, type ChatCompletionChunk } from "../protocol/openai.js";
import type { ChatCompletionTool, ChatCompletionToolChoice } from "../protocol/tools.js";
import type { ChatMessage } from "../protocol/types.js";
/** A request in the shape of OpenAI's chat completions. Fields not named here are ignored. */
export interface ChatCompletionParams {
    readonly messages: readonly ChatMessage[];
    /** The instance's model when left out. */
    readonly model?: string | null;
    readonly max_completion_tokens?: number | null;
    readonly max_tokens?: number | null;
    readonly stop?: string | readonly string[] | null;
    readonly temperature?: number | null;
    readonly top_p?: number | null;
    readonly top_k?: number | null;
    readonly min_p?: number | null;
    readonly repetition_penalty?: number | null;
    readonly presence_penalty?: number | null;
    readonly frequency_penalty?: number | null;
    /** The same seed and request give the same text. */
    readonly seed?: number | null;
    /** Only 1. */
    readonly n?: number | null;
    /** Tokens guessed ahead from the text so far. The answer is the same; 0 guesses none, for measuring a device. */
    readonly guesses?: number | null;
    /**
     * What the answer must look like: JSON that is valid under a schema, some JSON object, or text that follows rules in GBNF
     * (llama.cpp's notation). Say in the messages what you want, too. The answer may still break off at `max_tokens`.
     */
    readonly response_format?: {
        readonly type: "text" | "json_object";
    } | {
        readonly type: "json_schema";
        readonly json_schema: {
            readonly schema: unknown;
        };
    } | {
        readonly type: "grammar";
        readonly grammar: string;
    } | null;
    /**
     * What the model may ask you to call. Where it does, `finish_reason` is `tool_calls`; call, and send the answer's message and
     * a message of role `tool` for each call. Not together with `response_format`.
     */
    readonly tools?: readonly ChatCompletionTool[] | null;
    /** `auto` when left out. */
    readonly tool_choice?: ChatCompletionToolChoice | null;
    /** Whether one answer may make several calls; it makes one when left out. */
    readonly parallel_tool_calls?: boolean | null;
    readonly stream?: boolean | null;
    readonly stream_options?: {
        readonly include_usage?: boolean;
    } | null;
}
export type ChatCompletionStreamingParams = ChatCompletionParams & {
    readonly stream: true;
};
export type ChatCompletionPlainParams = ChatCompletionParams & {
    readonly stream?: false | null;
};
export interface RequestOptions {
    /** Ends the call at once, with code `cancelled`. */
    readonly signal?: AbortSignal;
}
/** The chunks of one answer, to be read once with `for await`. Leaving the loop stops the work. */
export type ChatCompletionStream = AsyncIterable<ChatCompletionChunk>;
export interface ChatCompletions {
    create(params: ChatCompletionStreamingParams, options?: RequestOptions): Promise<ChatCompletionStream>;
    create(params: ChatCompletionPlainParams, options?: RequestOptions): Promise<ChatCompletion>;
    create(params: ChatCompletionParams, options?: RequestOptions): Promise<ChatCompletion | ChatCompletionStream>;
}
export interface Chat {
    readonly completions: ChatCompletions;
}
export interface ChatEnvironment {
    readonly client: NodeClient;
    readonly model: string | undefined;
    /** Resolves when a node may be asked; asks the visitor for consent if need be. */
    ready(): Promise<void>;
}
export declare class Completions implements ChatCompletions {
    #private;
    constructor(environment: ChatEnvironment);
    create(params: ChatCompletionStreamingParams, options?: RequestOptions): Promise<ChatCompletionStream>;
    create(params: ChatCompletionPlainParams, options?: RequestOptions): Promise<ChatCompletion>;
    create(params: ChatCompletionParams, options?: RequestOptions): Promise<ChatCompletion | ChatCompletionStream>;
}
/** Waits, but not longer than the signal allows. */
export declare function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T>;

// protocol/openai.ts
/** Between the OpenAI shape of chat completions and the node's own, for the page's API and the front door. */
import { type ChatCompletionChunkToolCall } from "./tools.js";
import type { ChatDone, ChatRequest, ErrorBody, ErrorCode, ModelStatus, Receipt, ToolCall } from "./types.js";
export interface CompletionUsage {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
    prompt_tokens_details: {
        cached_tokens: number;
    };
}
export type CompletionFinishReason = "stop" | "length" | "tool_calls";
/** What KwaaiNet adds to OpenAI's shape. */
export interface CompletionExtra {
    /** Where the answer was computed and what it took. */
    receipt: Receipt;
}
export interface ChatCompletion {
    id: string;
    object: "chat.completion";
    /** Unix seconds. */
    created: number;
    model: string;
    choices: ChatCompletionChoice[];
    usage: CompletionUsage;
    kwaainet: CompletionExtra;
}
export interface ChatCompletionChoice {
    index: number;
    message: ChatCompletionMessage;
    logprobs: null;
    finish_reason: CompletionFinishReason;
}
export interface ChatCompletionMessage {
    role: "assistant";
    /** `null` where the model calls tools and says nothing. */
    content: string | null;
    refusal: null;
    /** With the finish reason `tool_calls`: what to call. Answer each with a message of role `tool`. */
    tool_calls?: ToolCall[];
}
export interface ChatCompletionChunk {
    id: string;
    object: "chat.completion.chunk";
    /** Unix seconds. */
    created: number;
    model: string;
    choices: ChatCompletionChunkChoice[];
    /** With `stream_options.include_usage`: `null` until the last chunk. */
    usage?: CompletionUsage | null;
    /** With the chunk that has the finish reason. */
    kwaainet?: CompletionExtra;
}
export interface ChatCompletionChunkChoice {
    index: number;
    delta: {
        role?: "assistant";
        content?: string;
        tool_calls?: ChatCompletionChunkToolCall[];
    };
    logprobs: null;
    finish_reason: CompletionFinishReason | null;
}
export interface ModelList {
    object: "list";
    data: Model[];
}
export interface Model {
    id: string;
    object: "model";
    /** Not known; 0 stands for that. */
    created: number;
    owned_by: string;
    /** What of it is on this device. */
    kwaainet: ModelStatus;
}
export declare function toModelList(statuses: readonly ModelStatus[]): ModelList;
/** Takes over what is set; `null` means unset, as with OpenAI. The node checks values and says what is wrong. */
export declare function toChatRequest(body: Record<string, unknown>, model: string | undefined): ChatRequest;
/** Builds the chunks and the completion of one answer. */
export declare class CompletionWriter {
    #private;
    constructor(model: string, includeUsage: boolean);
    delta(content: string): ChatCompletionChunk;
    /** The last chunks. */
    end(done: ChatDone): ChatCompletionChunk[];
    completion(content: string, done: ChatDone): ChatCompletion;
}
export declare function includesUsage(body: Record<string, unknown>): boolean;
export interface OpenAiError {
    error: {
        message: string;
        type: string;
        param: null;
        code: ErrorCode;
    };
}
export declare function statusOf(code: ErrorCode): number;
export declare function toOpenAiError(body: ErrorBody): OpenAiError;

// protocol/errors.ts
import type { ErrorBody, ErrorCode } from "./types.js";
/** What every call of KwaaiNet rejects with. `code` is for programs, `message` says what to do. */
export declare class KwaaiNetError extends Error {
    readonly code: ErrorCode;
    /** The same call may succeed later without being changed. */
    readonly retryable: boolean;
    constructor(code: ErrorCode, message: string, options?: {
        retryable?: boolean;
        cause?: unknown;
    });
}
export declare function errorFromBody(body: ErrorBody): KwaaiNetError;
export declare function errorToBody(error: unknown): ErrorBody;
export declare function messageOf(error: unknown): string;
export declare function cancelled(signal?: AbortSignal): KwaaiNetError;

// host/site-options.ts
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
export declare const serviceNames: readonly Service[];
export declare const packNames: readonly PolicyPack[];
export declare const hostNames: readonly HostKind[];
export declare const kvFormats: readonly KvFormat[];
export declare const resourceNames: readonly ["cpu", "memory", "storage"];
/** As the node checks it. */
export declare const shortestContext = 64;
export declare const longestContext = 131072;
export declare const isContext: (tokens: unknown) => tokens is number;
/** As the node checks them. */
export declare const mostBootstrap = 16;
export declare const peerAddress: RegExp;
/** Takes what is well formed and leaves the rest out: the other side has warned its developer already. */
export declare function readSiteOptions(data: unknown): SiteOptions;
/** The part of the options that the node is configured with. */
export declare function configOf(options: SiteOptions): NodeConfig;
export declare function isObject(data: unknown): data is Record<string, unknown>;
type Compact<T> = {
    [K in keyof T as undefined extends T[K] ? never : K]: T[K];
} & {
    [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};
/** Without the keys that have no value: serde takes an absent field for its default, not `undefined`. */
export declare function compact<T extends object>(object: T): Compact<T>;
export {};
