/** A node that answers over a port as the real one does, but whose text is a function of seed and position. */
import type { PortLike } from "../../src/protocol/port.js";
import type { ChatRequest, Command, Envelope, Reply } from "../../src/protocol/types.js";

export interface FakeNodeOptions {
  readonly epoch?: string;
  readonly protocol?: number;
  /** Tokens after which it falls silent, as if killed. */
  readonly dieAfter?: number;
}

/** The token at a position of an answer. */
export function tokenAt(seed: number, position: number): number {
  return (Math.imul(seed ^ (position + 1), 2654435761) >>> 16) % 1000;
}

export function wordOf(token: number): string {
  return ` w${token}`;
}

/** What an uninterrupted answer says. */
export function textOf(seed: number, tokens: number): string {
  return Array.from({ length: tokens }, (_, position) => wordOf(tokenAt(seed, position))).join("");
}

export class FakeNode {
  readonly epoch: string;
  readonly commands: Command[] = [];
  readonly cancelled: number[] = [];
  dead = false;
  #delivered = 0;
  readonly #options: FakeNodeOptions;
  readonly #stopped = new Set<number>();

  constructor(options: FakeNodeOptions = {}) {
    this.#options = options;
    this.epoch = options.epoch ?? "epoch-1";
  }

  serve(port: PortLike): void {
    const send = (envelope: Envelope) => {
      if (!this.dead) port.postMessage(envelope);
    };
    port.onmessage = (event) => {
      const envelope = event.data as Envelope;
      if (this.dead) return;
      switch (envelope.kind) {
        case "hello": {
          const welcome = { protocol: this.#options.protocol ?? 1, version: "0.0.0", epoch: this.epoch };
          send({ v: 1, id: 0, kind: "welcome", body: welcome });
          return;
        }
        case "cancel":
          this.cancelled.push(envelope.id);
          this.#stopped.add(envelope.id);
          return;
        case "command":
          this.commands.push(envelope.body);
          void this.#answer(envelope.id, envelope.body, send);
          return;
        default:
      }
    };
  }

  async #answer(id: number, command: Command, send: (envelope: Envelope) => void): Promise<void> {
    if (command.type === "chat") {
      await this.#chat(id, command.request, command.resume ?? [], send);
      return;
    }
    send({ v: 1, id, kind: "reply", body: replyTo(command) });
  }

  async #chat(
    id: number,
    request: ChatRequest,
    resume: readonly number[],
    send: (envelope: Envelope) => void,
  ): Promise<void> {
    const seed = request.seed ?? 0;
    const most = request.max_tokens ?? 8;
    for (let position = resume.length; position < most; position += 1) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (this.#stopped.has(id)) return;
      if (this.#options.dieAfter !== undefined && this.#delivered >= this.#options.dieAfter) this.dead = true;
      if (this.dead) return;
      this.#delivered += 1;
      const token = tokenAt(seed, position);
      const delta = { text: wordOf(token), tokens: [token] };
      send({ v: 1, id, kind: "chunk", body: { type: "delta", delta } });
    }
    const receipt = {
      model: request.model ?? "fake",
      privacy: "device",
      backend: "fake",
      promptTokens: 3,
      reusedTokens: 1,
      completionTokens: most,
      prefillMs: 1,
      decodeMs: 1,
      bytesSent: 0,
      seed,
    } as const;
    const calls = (request.tools ?? []).map(({ name }, index) => ({
      type: "function" as const,
      id: `call${index}`,
      function: { name, arguments: '{"z": 1}' },
    }));
    const done =
      calls.length > 0
        ? ({ text: "", finishReason: "tool_calls", toolCalls: calls, receipt } as const)
        : ({ text: "", finishReason: "length", receipt } as const);
    send({ v: 1, id, kind: "reply", body: { type: "chat", done } });
  }
}

function replyTo(command: Command): Reply {
  switch (command.type) {
    case "models": {
      const status = {
        id: "fake",
        name: "Fake",
        bytes: 1,
        licence: "MIT",
        quantisation: "F32",
        contextLength: 64,
        storedBytes: 0,
        loaded: false,
      };
      return { type: "models", models: [status] };
    }
    case "loadModel":
      return { type: "loaded", model: command.model ?? "fake", source: "memory" };
    default:
      return { type: "done" };
  }
}
