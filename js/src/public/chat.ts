import type { NodeClient } from "../protocol/client.js";
import { cancelled, KwaaiNetError } from "../protocol/errors.js";
import {
  type ChatCompletion,
  type ChatCompletionChunk,
  CompletionWriter,
  includesUsage,
  toChatRequest,
} from "../protocol/openai.js";
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
  readonly response_format?:
    | { readonly type: "text" | "json_object" }
    | { readonly type: "json_schema"; readonly json_schema: { readonly schema: unknown } }
    | { readonly type: "grammar"; readonly grammar: string }
    | null;
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
  readonly stream_options?: { readonly include_usage?: boolean } | null;
}

export type ChatCompletionStreamingParams = ChatCompletionParams & { readonly stream: true };
export type ChatCompletionPlainParams = ChatCompletionParams & { readonly stream?: false | null };

export interface RequestOptions {
  /** Ends the call at once, with code `cancelled`. */
  readonly signal?: AbortSignal;
}

/** The chunks of one answer, to be read once with `for await`. Leaving the loop stops the work. */
export type ChatCompletionStream = AsyncIterable<ChatCompletionChunk>;

export interface ChatCompletions {
  create(params: ChatCompletionStreamingParams, options?: RequestOptions): Promise<ChatCompletionStream>;
  create(params: ChatCompletionPlainParams, options?: RequestOptions): Promise<ChatCompletion>;
  create(
    params: ChatCompletionParams,
    options?: RequestOptions,
  ): Promise<ChatCompletion | ChatCompletionStream>;
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

export class Completions implements ChatCompletions {
  readonly #environment: ChatEnvironment;

  constructor(environment: ChatEnvironment) {
    this.#environment = environment;
  }

  create(params: ChatCompletionStreamingParams, options?: RequestOptions): Promise<ChatCompletionStream>;
  create(params: ChatCompletionPlainParams, options?: RequestOptions): Promise<ChatCompletion>;
  create(
    params: ChatCompletionParams,
    options?: RequestOptions,
  ): Promise<ChatCompletion | ChatCompletionStream>;
  async create(
    params: ChatCompletionParams,
    { signal }: RequestOptions = {},
  ): Promise<ChatCompletion | ChatCompletionStream> {
    const { client, model, ready } = this.#environment;
    const body: Record<string, unknown> = { ...params };
    const request = toChatRequest(body, model);
    await orAborted(ready(), signal);
    const writer = new CompletionWriter(request.model ?? "", includesUsage(body));
    if (params.stream === true) return stream(client, request, writer, signal);
    let content = "";
    const onDelta = (delta: { text: string }) => {
      content += delta.text;
    };
    const done = await client.chat(request, { signal, onDelta });
    return writer.completion(content + done.text, done);
  }
}

function stream(
  client: NodeClient,
  request: Parameters<NodeClient["chat"]>[0],
  writer: CompletionWriter,
  outer: AbortSignal | undefined,
): ChatCompletionStream {
  const chunks: ChatCompletionChunk[] = [];
  let wake = () => {};
  let ended: { error?: unknown } | null = null;
  let taken = false;
  // Leaving the loop aborts as well, so there is a signal of our own.
  const inner = new AbortController();
  const abort = () => inner.abort(outer?.reason);
  if (outer?.aborted) abort();
  outer?.addEventListener("abort", abort);
  const push = (...more: ChatCompletionChunk[]) => {
    chunks.push(...more);
    wake();
  };
  const end = (how: { error?: unknown }) => {
    ended = how;
    outer?.removeEventListener("abort", abort);
    wake();
  };
  const onDelta = (delta: { text: string }) => {
    if (delta.text !== "") push(writer.delta(delta.text));
  };
  client.chat(request, { signal: inner.signal, onDelta }).then(
    (done) => {
      push(...writer.end(done));
      end({});
    },
    (error: unknown) => end({ error }),
  );
  async function* read(): AsyncGenerator<ChatCompletionChunk, void, undefined> {
    try {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk !== undefined) yield chunk;
        else if (ended === null) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        } else if (ended.error !== undefined) throw ended.error;
        else return;
      }
    } finally {
      inner.abort();
    }
  }
  return {
    [Symbol.asyncIterator]() {
      if (taken) throw new KwaaiNetError("badRequest", "A stream can be read only once.");
      taken = true;
      return read();
    },
  };
}

/** Waits, but not longer than the signal allows. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) return Promise.reject(cancelled(signal));
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(cancelled(signal));
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
