/* tslint:disable */
/* eslint-disable */

/** A MessagePort, or anything that behaves like one. */
export interface PortLike {
    postMessage(message: unknown): void;
    onmessage: ((event: MessageEvent) => void) | null;
    start?(): void;
}


/**
 * A call that the model asks for, or asked for earlier in the conversation.
 */
export type ToolCall = { type: "function"; id: string; function: FunctionCall };

/**
 * A chat completion as OpenAI's clients ask for it. Fields that we do not know are ignored, as there;
 * known ones that we cannot honour are refused by [`ChatRequest::check`].
 */
export interface ChatRequest extends SamplingOptions, ToolOptions {
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
    /**
     * Most tokens that are guessed from the text so far and evaluated with the next one. The answer is the same, only
     * sooner where it repeats something. 0 guesses none: for measuring how fast a device is.
     */
    guesses?: number | undefined;
    /**
     * What the answer must look like. It may still break off at `max_tokens`.
     */
    response_format?: ResponseFormat | undefined;
}

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
 * A function that the application offers.
 */
export interface Tool {
    /**
     * Letters, digits, `_` and `-`.
     */
    name: string;
    /**
     * What it does and when to call it, for the model.
     */
    description?: string | undefined;
    /**
     * JSON schema of its arguments, as text: the order of an object's members counts, and objects on their way between
     * languages lose it. Absent for a function without arguments.
     */
    parameters?: string | undefined;
}

/**
 * A function's name and its arguments.
 */
export interface FunctionCall {
    /**
     * Which function.
     */
    name: string;
    /**
     * JSON, as the model wrote it.
     */
    arguments: string;
}

/**
 * A message's content: a string, or text parts that are joined.
 */
export type Content = string | ContentPart[];

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
 * A part of KwaaiNet that a site may ask for (`data-services`).
 */
export type Service = "compute" | "storage" | "identity" | "carbon";

/**
 * A peer that is connected.
 */
export interface PeerStatus {
    /**
     * Its id, which its handshake proved.
     */
    peer: string;
    /**
     * How it is reached.
     */
    via: Via;
    /**
     * Where. Sites are not told.
     */
    address?: string;
    /**
     * Bytes of messages sent to it since the connection began.
     */
    sent: number;
    /**
     * Bytes of messages received from it since the connection began.
     */
    received: number;
}

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
 * A policy pack (`data-privacy-compliant`). It can only tighten behaviour; it is not a badge.
 */
export type PolicyPack = "gdpr" | "ccpa" | "hipaa";

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
    /**
     * How conversations are remembered.
     */
    kvCache?: KvFormat;
    /**
     * Addresses of peers that those who help others call first. Without any, nobody is asked to help.
     */
    bootstrap?: string[];
}

/**
 * Final answers.
 */
export type Reply = { type: "done" } | { type: "consent"; record: ConsentRecord | undefined } | { type: "capabilities"; capabilities: Capabilities } | { type: "models"; models: ModelStatus[] } | { type: "loaded"; model: string; source: ModelSource } | { type: "chat"; done: ChatDone } | { type: "network"; network: NetworkStatus };

/**
 * How a node is to be started.
 */
export interface StartOptions {
    /**
     * What the host found out. Storage, threads and tier are corrected to what was really reached.
     */
    hostReport: HostReport;
    /**
     * Where models come from.
     */
    deployment: DeploymentOptions;
    /**
     * Best store to use: `opfs-sync` (dedicated workers), `indexeddb`, or `memory`.
     */
    storage: string;
    /**
     * Threads to compute with, at most; more than one only in the build with threads.
     */
    threads: number;
    /**
     * Script of a pool thread.
     */
    poolUrl: string | undefined;
}

/**
 * How a peer is reached.
 */
export type Via = "relayed" | "webRtc" | "webSocket" | "quic" | "tcp" | "other";

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
     * Of the bytes that this fetch has brought, those that came from peers.
     */
    fromPeers: number;
    /**
     * Peers that they came from.
     */
    peers: number;
    /**
     * Bytes per second over the last seconds; absent until it is known.
     */
    bytesPerSecond: number | undefined;
}

/**
 * How keys and values of a conversation are remembered.
 */
export type KvFormat = "f16" | "q8";

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
 * Lowest tier of device that runs a model at a useful speed.
 */
export type Tier = "T0" | "T1" | "T2" | "T3";

/**
 * One message of a conversation.
 */
export interface ChatMessage {
    /**
     * Who said it.
     */
    role: Role;
    /**
     * What was said. The assistant may have called tools and said nothing.
     */
    content?: Content | null;
    /**
     * What the assistant asked for.
     */
    tool_calls?: ToolCall[];
    /**
     * The call that this is the result of.
     */
    tool_call_id?: string;
}

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
 * One part of a message.
 */
export type ContentPart = { type: "text"; text: string };

/**
 * One stop string or several.
 */
export type Stop = string | string[];

/**
 * Pieces before the final answer.
 */
export type Chunk = { type: "progress"; progress: Progress } | { type: "delta"; delta: ChatDelta };

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
     * The calls that the model asks for. None of an answer that was cut off.
     */
    toolCalls?: ToolCall[];
    /**
     * What it took.
     */
    receipt: Receipt;
}

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
 * The node among others.
 */
export interface NetworkStatus {
    /**
     * Whether it takes part.
     */
    state: NetworkState;
    /**
     * Why it is not joined, where something went wrong.
     */
    reason?: string;
    /**
     * Our own id, a new one at each visit.
     */
    peer?: string;
    /**
     * Everybody who is connected.
     */
    peers: PeerStatus[];
}

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
 * Things that happen without being asked for.
 */
export type Event = { type: "consentChanged"; purposes: Purpose[] } | { type: "modelChanged"; status: ModelStatus } | { type: "progress"; progress: Progress } | { type: "networkChanged"; network: NetworkStatus } | { type: "warning"; message: string };

/**
 * Tools of a request, and how they may be used.
 */
export interface ToolOptions {
    /**
     * What the model may call.
     */
    tools?: Tool[];
    /**
     * Whether it calls; as it likes when absent.
     */
    tool_choice?: ToolChoice | undefined;
    /**
     * Whether one answer may make several calls. Not by default: small models do not know when to stop.
     */
    parallel_tool_calls?: boolean | undefined;
}

/**
 * What an agreement may be about. Each is asked for, given and withdrawn on its own.
 */
export type Purpose = "runAi" | "keepModel" | "helpOthers" | "identity" | "analytics" | "carbon" | "rewards";

/**
 * What an answer must look like. OpenAI's `json_schema` with the schema as text, because the order of an object's members
 * counts, and objects on their way between languages lose it.
 */
export type ResponseFormat = { type: "text" } | { type: "json_object" } | { type: "json_schema"; schema: string } | { type: "grammar"; grammar: string };

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
 * What is being done with a model.
 */
export type Stage = "fetch" | "load" | "retry";

/**
 * What is in an envelope.
 */
export type Message = { kind: "hello" } | { kind: "welcome"; body: Welcome } | { kind: "command"; body: Command } | { kind: "cancel" } | { kind: "chunk"; body: Chunk } | { kind: "reply"; body: Reply } | { kind: "error"; body: ErrorBody } | { kind: "event"; body: Event } | { kind: "ping" } | { kind: "pong" };

/**
 * What may be asked of a node.
 */
export type Command = { type: "configure"; config: NodeConfig } | { type: "grant"; record: ConsentRecord } | { type: "withdraw" } | { type: "consent" } | { type: "capabilities" } | { type: "models" } | { type: "loadModel"; model: string | undefined } | { type: "deleteModel"; model: string } | { type: "chat"; request: ChatRequest; resume?: number[] } | { type: "network" } | { type: "joinNetwork"; peers?: string[] } | { type: "leaveNetwork" };

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
 * What went wrong, as a word that programs can test for.
 */
export type ErrorCode = "badRequest" | "busy" | "cancelled" | "consentRequired" | "consentExpired" | "notAllowed" | "contextTooLong" | "modelNotFound" | "modelInvalid" | "modelUnsupported" | "templateInvalid" | "outOfMemory" | "storageFull" | "storageDenied" | "storageInUse" | "networkUnreachable" | "integrityFailed" | "catalogueInvalid" | "versionMismatch" | "hostBlocked" | "interrupted" | "unsupported" | "internal";

/**
 * Where a model's bytes came from.
 */
export type ModelSource = "memory" | "device" | "network";

/**
 * Where models come from.
 */
export interface DeploymentOptions {
    /**
     * Absolute URL of `models.json`.
     */
    catalogueUrl: string | undefined;
    /**
     * Ed25519 public key that it must be signed with, as 64 hexadecimal digits.
     */
    catalogueKey: string | undefined;
}

/**
 * Where the work was done and who could read it.
 */
export type PrivacyMode = "device";

/**
 * Whether the model calls tools.
 */
export type ToolChoice = { type: "auto" } | { type: "none" } | { type: "required" } | { type: "function"; name: string };

/**
 * Whether the node is in the network of peers.
 */
export type NetworkState = "off" | "joining" | "joined";

/**
 * Who holds the other end of a port. Set by the host when the port is made.
 */
export type Origin = "site" | "panel" | "operator";

/**
 * Who said it.
 */
export type Role = "system" | "user" | "assistant" | "tool";

/**
 * Why an answer ended.
 */
export type FinishReason = "stop" | "length" | "cancelled" | "tool_calls";

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
 * A node that runs in this worker.
 */
export class NodeHandle {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    /**
     * Serves a port, whose other end `origin` holds, until it is closed or detached.
     *
     * # Errors
     * When there is no such origin.
     */
    attach(port: PortLike, origin: Origin): void;
    /**
     * Stops serving a port; what it had in flight is cancelled.
     */
    detach(port: PortLike): void;
    /**
     * Changes with every start.
     */
    readonly epoch: string;
}

/**
 * Reports panics before the trap. Runs once, when the module starts.
 */
export function report_panics(): void;

/**
 * Starts the node. To be called once in a worker, after its user agreed.
 *
 * `start_network` starts a worker with libp2p in it, for those who agree to help others.
 *
 * # Errors
 * A sentence, where the options make no sense.
 */
export function start_node(options: StartOptions, start_network?: (seed: Uint8Array, known: string[]) => { port: MessagePort; end: () => void }): Promise<NodeHandle>;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly memory: WebAssembly.Memory;
}

export type SyncInitInput = BufferSource | WebAssembly.Module;

/**
 * Instantiates the given `module`, which can either be bytes or
 * a precompiled `WebAssembly.Module`.
 *
 * @param {{ module: SyncInitInput }} module - Passing `SyncInitInput` directly is deprecated.
 *
 * @returns {InitOutput}
 */
export function initSync(module: { module: SyncInitInput } | SyncInitInput): InitOutput;

/**
 * If `module_or_path` is {RequestInfo} or {URL}, makes a request and
 * for everything else, calls `WebAssembly.instantiate` directly.
 *
 * @param {{ module_or_path: InitInput | Promise<InitInput> }} module_or_path - Passing `InitInput` directly is deprecated.
 *
 * @returns {Promise<InitOutput>}
 */
export default function __wbg_init (module_or_path: { module_or_path: InitInput | Promise<InitInput> } | InitInput | Promise<InitInput>): Promise<InitOutput>;
