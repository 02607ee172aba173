/**
 * The page's end of a data port. It numbers commands, hands their chunks and ends to the callers, and outlives
 * the node: when another node answers (a new epoch, or a new port), everything in flight is sent again, a chat
 * with the tokens it had already delivered, so that its text goes on and does not start over.
 */
import { cancelled, errorFromBody, KwaaiNetError } from "./errors.js";
import { isEnvelope, MOST_IN_FLIGHT, type PortLike, PROTOCOL_VERSION } from "./port.js";
import type {
  Capabilities,
  ChatDelta,
  ChatDone,
  ChatRequest,
  Chunk,
  Command,
  Envelope,
  ModelStatus,
  NetworkStatus,
  Event as NodeEvent,
  Progress,
  Reply,
} from "./types.js";

/** Which reply answers which command, so that one cannot be read as another. */
interface ReplyTypes {
  configure: "done";
  grant: "done";
  withdraw: "done";
  consent: "consent";
  capabilities: "capabilities";
  models: "models";
  loadModel: "loaded";
  deleteModel: "done";
  chat: "chat";
  network: "network";
  joinNetwork: "network";
  leaveNetwork: "done";
}

export type ReplyTo<C extends Command["type"]> = Extract<Reply, { type: ReplyTypes[C] }>;

const replyTypes: ReplyTypes = {
  configure: "done",
  grant: "done",
  withdraw: "done",
  consent: "consent",
  capabilities: "capabilities",
  models: "models",
  loadModel: "loaded",
  deleteModel: "done",
  chat: "chat",
  network: "network",
  joinNetwork: "network",
  leaveNetwork: "done",
};

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface ChatCallOptions extends CallOptions {
  readonly onDelta?: ((delta: ChatDelta) => void) | undefined;
}

interface Call {
  /** Made anew for each node, because a chat resumes from what has been delivered. */
  readonly command: () => Command;
  readonly expects: Reply["type"];
  readonly onChunk: (chunk: Chunk) => void;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: KwaaiNetError) => void;
}

export interface NodeClientOptions {
  /** What every new node is told before anything else. */
  readonly prelude?: () => readonly Command[];
  /** Asked for a port when a call finds none. */
  readonly wake?: () => void;
}

export class NodeClient {
  #port: PortLike | null = null;
  #epoch: string | null = null;
  /** A node has answered on this port and its prelude is done. */
  #ready = false;
  #nextId = 1;
  readonly #calls = new Map<number, Call>();
  readonly #prelude = new Map<number, (error?: KwaaiNetError) => void>();
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #options: NodeClientOptions;

  constructor(options: NodeClientOptions = {}) {
    this.#options = options;
  }

  /** Commands that have not been answered. */
  get inFlight(): number {
    return this.#calls.size;
  }

  /** The node that answers, `null` until one has. */
  get epoch(): string | null {
    return this.#epoch;
  }

  /** Goes on with this port. Whatever is in flight is sent again once the node there has answered. */
  attach(port: PortLike): void {
    this.detach();
    this.#port = port;
    port.onmessage = (event) => {
      if (this.#port === port && isEnvelope(event.data)) this.#receive(event.data);
    };
    port.postMessage({ v: PROTOCOL_VERSION, id: 0, kind: "hello" });
  }

  /** Leaves the port; calls wait for the next one. */
  detach(): void {
    const port = this.#port;
    if (port === null) return;
    // The node behind it may be alive still: it must not go on working for nobody.
    if (this.#ready)
      for (const id of this.#calls.keys()) this.#post({ v: PROTOCOL_VERSION, id, kind: "cancel" });
    port.onmessage = null;
    port.close();
    this.#port = null;
    this.#epoch = null;
    this.#ready = false;
    this.#prelude.clear();
  }

  /** Ends every call with this error. */
  failAll(error: KwaaiNetError): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(error);
  }

  onEvent(listener: (event: NodeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  send<C extends Command>(command: C, options: CallOptions = {}): Promise<ReplyTo<C["type"]>> {
    const { onProgress, signal } = options;
    const onChunk = (chunk: Chunk) => {
      if (chunk.type === "progress") onProgress?.(chunk.progress);
    };
    // The check of `expects` in #receive makes this the reply that belongs to the command.
    return this.#call(() => command, onChunk, signal) as Promise<ReplyTo<C["type"]>>;
  }

  async chat(request: ChatRequest, options: ChatCallOptions = {}): Promise<ChatDone> {
    // A resumed answer is the same answer only with the same seed, so one is fixed here.
    const seeded = { ...request, seed: request.seed ?? randomSeed() };
    const delivered: number[] = [];
    const onChunk = (chunk: Chunk) => {
      if (chunk.type === "progress") {
        options.onProgress?.(chunk.progress);
        return;
      }
      delivered.push(...chunk.delta.tokens);
      options.onDelta?.(chunk.delta);
    };
    const command = (): Command => ({ type: "chat", request: seeded, resume: [...delivered] });
    const reply = (await this.#call(command, onChunk, options.signal)) as ReplyTo<"chat">;
    return reply.done;
  }

  async loadModel(model: string | null, options?: CallOptions): Promise<void> {
    await this.send({ type: "loadModel", model: model ?? undefined }, options);
  }

  async models(): Promise<ModelStatus[]> {
    return (await this.send({ type: "models" })).models;
  }

  async capabilities(): Promise<Capabilities> {
    return (await this.send({ type: "capabilities" })).capabilities;
  }

  async network(): Promise<NetworkStatus> {
    return (await this.send({ type: "network" })).network;
  }

  async joinNetwork(peers: string[]): Promise<NetworkStatus> {
    return (await this.send({ type: "joinNetwork", peers })).network;
  }

  async leaveNetwork(): Promise<void> {
    await this.send({ type: "leaveNetwork" });
  }

  #call(command: () => Command, onChunk: (chunk: Chunk) => void, signal?: AbortSignal): Promise<Reply> {
    if (signal?.aborted) return Promise.reject(cancelled(signal));
    if (this.#calls.size >= MOST_IN_FLIGHT) {
      const message = `${MOST_IN_FLIGHT} calls are in flight already: wait for one of them to end.`;
      return Promise.reject(new KwaaiNetError("busy", message, { retryable: true }));
    }
    const id = this.#takeId();
    return new Promise<Reply>((resolve, reject) => {
      const abort = () => {
        if (!this.#calls.delete(id)) return;
        if (this.#ready) this.#post({ v: PROTOCOL_VERSION, id, kind: "cancel" });
        reject(cancelled(signal));
      };
      signal?.addEventListener("abort", abort, { once: true });
      const settled = <T>(then: (value: T) => void) => {
        return (value: T) => {
          signal?.removeEventListener("abort", abort);
          then(value);
        };
      };
      const expects = replyTypes[command().type];
      this.#calls.set(id, { command, expects, onChunk, resolve: settled(resolve), reject: settled(reject) });
      if (this.#ready) this.#post({ v: PROTOCOL_VERSION, id, kind: "command", body: command() });
      else if (this.#port === null) this.#options.wake?.();
    });
  }

  #receive(envelope: Envelope): void {
    switch (envelope.kind) {
      case "welcome":
        this.#welcome(envelope.body.protocol, envelope.body.epoch);
        return;
      case "ping":
        this.#post({ v: PROTOCOL_VERSION, id: envelope.id, kind: "pong" });
        return;
      case "event":
        for (const listener of [...this.#listeners]) listener(envelope.body);
        return;
      case "chunk":
        if (this.#ready) this.#calls.get(envelope.id)?.onChunk(envelope.body);
        return;
      case "reply":
        if (this.#endPrelude(envelope.id)) return;
        this.#end(envelope.id, (call) => {
          if (envelope.body.type === call.expects) call.resolve(envelope.body);
          else call.reject(new KwaaiNetError("internal", `The node answered with ${envelope.body.type}.`));
        });
        return;
      case "error": {
        const error = errorFromBody(envelope.body);
        if (this.#endPrelude(envelope.id, error)) return;
        this.#end(envelope.id, (call) => call.reject(error));
        return;
      }
      default:
    }
  }

  #end(id: number, then: (call: Call) => void): void {
    const call = this.#calls.get(id);
    // A late reply to a call that was aborted.
    if (call === undefined || !this.#ready) return;
    this.#calls.delete(id);
    then(call);
  }

  #endPrelude(id: number, error?: KwaaiNetError): boolean {
    const done = this.#prelude.get(id);
    this.#prelude.delete(id);
    done?.(error);
    return done !== undefined;
  }

  #welcome(protocol: number, epoch: string): void {
    if (protocol !== PROTOCOL_VERSION) {
      const older = protocol < PROTOCOL_VERSION ? "the node's files" : "@kwaainet/sdk";
      const message = `The node speaks protocol ${protocol}, this page ${PROTOCOL_VERSION}: update ${older}.`;
      this.failAll(new KwaaiNetError("versionMismatch", message));
      return;
    }
    // The same node may greet twice, when a relay said hello for us.
    if (this.#epoch === epoch) return;
    this.#epoch = epoch;
    this.#ready = false;
    this.#prelude.clear();
    void this.#start(epoch);
  }

  async #start(epoch: string): Promise<void> {
    for (const command of this.#options.prelude?.() ?? []) {
      const id = this.#takeId();
      const error = await new Promise<KwaaiNetError | undefined>((done) => {
        this.#prelude.set(id, done);
        this.#post({ v: PROTOCOL_VERSION, id, kind: "command", body: command });
      });
      if (this.#epoch !== epoch) return;
      if (error !== undefined) this.failAll(error);
    }
    this.#ready = true;
    for (const [id, call] of this.#calls) {
      this.#post({ v: PROTOCOL_VERSION, id, kind: "command", body: call.command() });
    }
  }

  #post(envelope: Envelope): void {
    this.#port?.postMessage(envelope);
  }

  #takeId(): number {
    const id = this.#nextId;
    // Ids are u32 and 0 belongs to events.
    this.#nextId = id >= 0xffff_ffff ? 1 : id + 1;
    return id;
  }
}

function randomSeed(): number {
  // 32 bits are below 2^53, the most that a seed may have.
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
