/* tslint:disable */
/* eslint-disable */

/**
 * Who said it.
 */
export type Role = "system" | "user" | "assistant";

/**
 * A message's content: a string, or text parts that are joined.
 */
export type Content = string | ContentPart[];

/**
 * One part of a message.
 */
export type ContentPart = { type: "text"; text: string };

/**
 * One message of a conversation.
 */
export interface ChatMessage {
    /**
     * Who said it.
     */
    role: Role;
    /**
     * What was said.
     */
    content: Content;
}

/**
 * One stop string or several.
 */
export type Stop = string | string[];

/**
 * How to choose tokens. Absent values take the engine's defaults.
 */
export interface SamplingOptions {
    /**
     * 0 is greedy; up to 5.
     */
    temperature?: number | undefined;
    /**
     * Keep the k likeliest tokens; 0 keeps all.
     */
    top_k?: number | undefined;
    /**
     * Keep the likeliest tokens that together have this probability.
     */
    top_p?: number | undefined;
    /**
     * Drop tokens less likely than this share of the likeliest.
     */
    min_p?: number | undefined;
    /**
     * Divides the logits of recent tokens; 1 is off.
     */
    repetition_penalty?: number | undefined;
    /**
     * Subtracted once from tokens already present.
     */
    presence_penalty?: number | undefined;
    /**
     * Subtracted per occurrence.
     */
    frequency_penalty?: number | undefined;
    /**
     * The same seed and request give the same text. Below 2^53, so that JavaScript can hold it.
     */
    seed?: number | undefined;
}

/**
 * A chat completion as OpenAI's clients ask for it. Fields that we do not know are ignored, as there;
 * known ones that we cannot honour are refused by [`ChatRequest::check`].
 */
export interface ChatRequest extends SamplingOptions {
    /**
     * Model id; the configured model when absent or empty.
     */
    model?: string | undefined;
    /**
     * The conversation.
     */
    messages: ChatMessage[];
    /**
     * Most tokens to generate.
     */
    max_tokens?: number | undefined;
    /**
     * Strings that end the answer.
     */
    stop?: Stop | undefined;
    /**
     * Number of answers; only 1.
     */
    n?: number | undefined;
    /**
     * Whether pieces are wanted as they come; decided by the caller of the node.
     */
    stream?: boolean | undefined;
}

/**
 * Why an answer ended.
 */
export type FinishReason = "stop" | "length" | "cancelled";

/**
 * A piece of an answer. `tokens` are what a resumed request must send back; text may lag behind them
 * while a character is incomplete or a stop string is possible.
 */
export interface ChatDelta {
    /**
     * New text.
     */
    text: string;
    /**
     * Ids of the tokens generated since the last piece.
     */
    tokens: number[];
}

/**
 * Where the work was done and who could read it.
 */
export type PrivacyMode = "device";

/**
 * What an answer took, told to the person who asked.
 */
export interface Receipt {
    /**
     * Model id.
     */
    model: string;
    /**
     * Who could read the conversation.
     */
    privacy: PrivacyMode;
    /**
     * What computed it, e.g. `wasm simd128, 2 threads`.
     */
    backend: string;
    /**
     * Tokens of the prompt.
     */
    promptTokens: number;
    /**
     * Of these, taken over from the turn before.
     */
    reusedTokens: number;
    /**
     * Tokens of the answer.
     */
    completionTokens: number;
    /**
     * Milliseconds until the first token, model loading not included.
     */
    prefillMs: number;
    /**
     * Milliseconds from the first to the last token.
     */
    decodeMs: number;
    /**
     * Bytes of request bodies sent over the network for this answer.
     */
    bytesSent: number;
    /**
     * The seed, so that the answer can be had again.
     */
    seed: number;
}

/**
 * The end of an answer.
 */
export interface ChatDone {
    /**
     * The last piece of text, held back until now.
     */
    text: string;
    /**
     * Why it ended.
     */
    finishReason: FinishReason;
    /**
     * What it took.
     */
    receipt: Receipt;
}

/**
 * Caps on what the node may take of a device (`data-max-resources="cpu:20,memory:1024,storage:5000"`).
 */
export interface ResourceLimits {
    /**
     * Per cent of all processors of the device together, 1 to 100.
     */
    cpu?: number;
    /**
     * Memory for models and their caches, in MiB.
     */
    memory?: number;
    /**
     * Models kept on the device, in MiB.
     */
    storage?: number;
}

/**
 * A part of KwaaiNet that a site may ask for (`data-services`).
 */
export type Service = "compute" | "storage" | "identity" | "carbon";

/**
 * A policy pack (`data-privacy-compliant`). It can only tighten behaviour; it is not a badge.
 */
export type PolicyPack = "gdpr" | "ccpa" | "hipaa";

/**
 * Everything a node is configured with.
 */
export interface NodeConfig {
    /**
     * What the site asks for.
     */
    services?: Service[];
    /**
     * Packs that tighten behaviour.
     */
    privacyCompliance?: PolicyPack[];
    /**
     * Caps.
     */
    maxResources?: ResourceLimits;
    /**
     * Site and platform shares, in per cent, of the site-attributed part of rewards. Kept for the
     * economy to come; nothing is earned in this version.
     */
    rewardSplit?: [number, number];
    /**
     * Id of the model that answers when a request names none.
     */
    model?: string | undefined;
    /**
     * Longest prompt plus answer, in tokens.
     */
    contextLength?: number;
}

/**
 * What an agreement may be about. Each is asked for, given and withdrawn on its own.
 */
export type Purpose = "runAi" | "keepModel" | "helpOthers" | "identity" | "analytics" | "carbon" | "rewards";

/**
 * A consent record as it travels and is kept: plain data, worth nothing until accepted.
 */
export interface ConsentRecord {
    /**
     * Id of the receipt that the visitor can keep.
     */
    receiptId: string;
    /**
     * What was agreed to. An empty list records a refusal.
     */
    purposes: Purpose[];
    /**
     * SHA-256 (hex) of the exact words and figures that were shown.
     */
    noticeDigest: string;
    /**
     * Language of the notice, as a BCP 47 tag.
     */
    language: string;
    /**
     * When, in Unix milliseconds.
     */
    grantedAtMs: number;
    /**
     * Until when, in Unix milliseconds.
     */
    expiresAtMs: number;
}

/**
 * What went wrong, as a word that programs can test for.
 */
export type ErrorCode = "badRequest" | "busy" | "cancelled" | "consentRequired" | "consentExpired" | "notAllowed" | "contextTooLong" | "modelNotFound" | "modelInvalid" | "modelUnsupported" | "templateInvalid" | "outOfMemory" | "storageFull" | "storageDenied" | "storageInUse" | "networkUnreachable" | "integrityFailed" | "catalogueInvalid" | "versionMismatch" | "hostBlocked" | "interrupted" | "unsupported" | "internal";

/**
 * An error as it crosses a border. Never holds prompts, answers or secrets.
 */
export interface ErrorBody {
    /**
     * The word for programs.
     */
    code: ErrorCode;
    /**
     * What happened and what to do about it, in a sentence.
     */
    message: string;
    /**
     * Whether the same request may succeed later.
     */
    retryable: boolean;
}

/**
 * Lowest tier of device that runs a model at a useful speed.
 */
export type Tier = "T0" | "T1" | "T2" | "T3";

/**
 * One model that can be fetched and verified.
 */
export interface ModelEntry {
    /**
     * Id that requests name: `[a-z0-9._-]{1,96}`.
     */
    id: string;
    /**
     * Name shown to people.
     */
    name: string;
    /**
     * `general.architecture` of the file.
     */
    architecture: string;
    /**
     * E.g. `Q4_1`.
     */
    quantisation: string;
    /**
     * Size of the file.
     */
    bytes: number;
    /**
     * SPDX id, or a name where there is none.
     */
    licence: string;
    /**
     * Longest context the model was trained for, in tokens.
     */
    contextLength: number;
    /**
     * Lowest tier that runs it.
     */
    smallestTier: Tier;
    /**
     * CIDv1 of the file as one DAG-PB/UnixFS file of raw 1 MiB leaves.
     */
    cid: string;
    /**
     * SHA-256 (hex) of each chunk of [`CHUNK_BYTES`], the last one shorter.
     */
    chunkHashes: string[];
    /**
     * Where to fetch from, in order: `https:` URLs, or paths relative to the catalogue's own URL.
     */
    sources: string[];
}

/**
 * All models of a deployment.
 */
export interface Catalogue {
    /**
     * Version of this format: 1.
     */
    version: number;
    /**
     * Rises with every edition, so that an old one cannot be passed off as new.
     */
    edition: number;
    /**
     * IPFS trustless gateways to try after the device itself, e.g. `https://ipfs.example/ipfs/`.
     */
    gateways: string[];
    /**
     * The models.
     */
    models: ModelEntry[];
}

/**
 * `models.json`: the catalogue as the exact text that was signed.
 */
export interface SignedCatalogue {
    /**
     * JSON text of a [`Catalogue`]; signed as these bytes, so no canonical form is needed.
     */
    catalogue: string;
    /**
     * Ed25519 signature (hex) over `kwaainet-catalogue-v1\n` followed by those bytes.
     */
    signature: string;
    /**
     * Ed25519 public key (hex) it claims to be signed with; trusted only if it is the configured one.
     */
    key: string;
}

/**
 * Who holds the other end of a port. Set by the host when the port is made.
 */
export type Origin = "site" | "panel" | "operator";

/**
 * What may be asked of a node.
 */
export type Command = { type: "configure"; config: NodeConfig } | { type: "grant"; record: ConsentRecord } | { type: "withdraw" } | { type: "consent" } | { type: "capabilities" } | { type: "models" } | { type: "loadModel"; model: string | undefined } | { type: "deleteModel"; model: string } | { type: "chat"; request: ChatRequest; resume?: number[] };

/**
 * Final answers.
 */
export type Reply = { type: "done" } | { type: "consent"; record: ConsentRecord | undefined } | { type: "capabilities"; capabilities: Capabilities } | { type: "models"; models: ModelStatus[] } | { type: "loaded"; model: string; source: ModelSource } | { type: "chat"; done: ChatDone };

/**
 * Pieces before the final answer.
 */
export type Chunk = { type: "progress"; progress: Progress } | { type: "delta"; delta: ChatDelta };

/**
 * Things that happen without being asked for.
 */
export type Event = { type: "consentChanged"; purposes: Purpose[] } | { type: "modelChanged"; status: ModelStatus } | { type: "progress"; progress: Progress } | { type: "warning"; message: string };

/**
 * The envelope of every message.
 */
export interface Envelope extends Message {
    /**
     * [`PROTOCOL_VERSION`] of the sender.
     */
    v: number;
    /**
     * Correlates a command with its chunks and its end; 0 where there is none.
     */
    id: number;
}

/**
 * What is in an envelope.
 */
export type Message = { kind: "hello" } | { kind: "welcome"; body: Welcome } | { kind: "command"; body: Command } | { kind: "cancel" } | { kind: "chunk"; body: Chunk } | { kind: "reply"; body: Reply } | { kind: "error"; body: ErrorBody } | { kind: "event"; body: Event } | { kind: "ping" } | { kind: "pong" };

/**
 * The node's first words.
 */
export interface Welcome {
    /**
     * [`PROTOCOL_VERSION`].
     */
    protocol: number;
    /**
     * Version of the node.
     */
    version: string;
    /**
     * Changes with every start, so that the page notices that a node died.
     */
    epoch: string;
}

/**
 * How far a fetch or load has come.
 */
export interface Progress {
    /**
     * Model id.
     */
    model: string;
    /**
     * What is being done.
     */
    stage: Stage;
    /**
     * Bytes done.
     */
    done: number;
    /**
     * Bytes in all.
     */
    total: number;
    /**
     * Bytes per second over the last seconds; absent until it is known.
     */
    bytesPerSecond: number | undefined;
}

/**
 * What is being done with a model.
 */
export type Stage = "fetch" | "load" | "retry";

/**
 * Where a model's bytes came from.
 */
export type ModelSource = "memory" | "device" | "network";

/**
 * A model and its state on this device.
 */
export interface ModelStatus {
    /**
     * Model id.
     */
    id: string;
    /**
     * Name shown to people.
     */
    name: string;
    /**
     * Size of the file.
     */
    bytes: number;
    /**
     * SPDX id or name.
     */
    licence: string;
    /**
     * Quantisation.
     */
    quantisation: string;
    /**
     * Longest context.
     */
    contextLength: number;
    /**
     * Verified bytes on this device.
     */
    storedBytes: number;
    /**
     * In memory and ready.
     */
    loaded: boolean;
}

/**
 * What the host found out about itself; the node adds the rest.
 */
export interface HostReport {
    /**
     * `worker`, `service-worker`, `page` or `native`.
     */
    host: string;
    /**
     * What computes, e.g. `wasm simd128`.
     */
    backend: string;
    /**
     * Threads in use.
     */
    threads: number;
    /**
     * Logical processors of the device.
     */
    processors: number;
    /**
     * `opfs-sync`, `opfs`, `indexeddb`, `files` or `memory`.
     */
    storage: string;
    /**
     * Highest tier reached.
     */
    tier: Tier;
    /**
     * Each rung of the ladder that was missing, and what was done instead.
     */
    missing: Missing[];
}

/**
 * Something that the device or browser does not offer.
 */
export interface Missing {
    /**
     * What is missing, e.g. `crossOriginIsolated`.
     */
    what: string;
    /**
     * What happens instead.
     */
    instead: string;
}

/**
 * The capability report.
 */
export interface Capabilities {
    /**
     * What the host found.
     */
    host: HostReport;
    /**
     * Caps in force.
     */
    limits: ResourceLimits;
    /**
     * Purposes that the visitor agreed to.
     */
    purposes: Purpose[];
    /**
     * Architectures that can be run.
     */
    architectures: string[];
    /**
     * Quantisations that can be run.
     */
    quantisations: string[];
}

