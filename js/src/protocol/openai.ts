/** Between the OpenAI shape of chat completions and the node's own, for the page's API and the front door. */
import { type ChatCompletionChunkToolCall, toCallDeltas, toToolChoice, toTools } from "./tools.js";
import type { ChatDone, ChatRequest, ErrorBody, ErrorCode, ModelStatus, Receipt, ToolCall } from "./types.js";

export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
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
  delta: { role?: "assistant"; content?: string; tool_calls?: ChatCompletionChunkToolCall[] };
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

export function toModelList(statuses: readonly ModelStatus[]): ModelList {
  const data = statuses.map(
    (status): Model => ({
      id: status.id,
      object: "model",
      created: 0,
      owned_by: "kwaainet",
      kwaainet: status,
    }),
  );
  return { object: "list", data };
}

/** The fields of a request that the node knows. Others are left out, as OpenAI-compatible servers do. */
const numbers = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "seed",
  "n",
  "guesses",
] as const;

/**
 * The schema as text: objects on their way to the node may lose the order of their members, which counts. What is not in
 * OpenAI's shape goes on as it is, and the node says what is wrong with it.
 */
function toFormat(format: unknown): unknown {
  const { type, json_schema: named } = Object(format);
  const schema = Object(named).schema;
  if (type !== "json_schema" || schema === undefined) return format;
  return { type, schema: JSON.stringify(schema) };
}

/** Takes over what is set; `null` means unset, as with OpenAI. The node checks values and says what is wrong. */
export function toChatRequest(body: Record<string, unknown>, model: string | undefined): ChatRequest {
  const { messages, max_tokens, max_completion_tokens, stop, response_format, model: named } = body;
  const most = max_completion_tokens ?? max_tokens;
  const fields: [string, unknown][] = numbers.map((name) => [name, body[name]]);
  fields.push(["messages", messages], ["max_tokens", most], ["stop", stop], ["model", named || model]);
  fields.push(["response_format", toFormat(response_format)]);
  const { tools, tool_choice, parallel_tool_calls } = body;
  fields.push(["tools", toTools(tools)], ["tool_choice", toToolChoice(tool_choice)]);
  fields.push(["parallel_tool_calls", parallel_tool_calls]);
  const set = fields.filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(set) as unknown as ChatRequest;
}

/** Builds the chunks and the completion of one answer. */
export class CompletionWriter {
  readonly #id = `chatcmpl-${crypto.randomUUID().replaceAll("-", "")}`;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #usage: boolean;
  #model: string;
  #first = true;

  constructor(model: string, includeUsage: boolean) {
    this.#model = model;
    this.#usage = includeUsage;
  }

  delta(content: string): ChatCompletionChunk {
    return this.#chunk(this.#first ? { role: "assistant", content } : { content }, null);
  }

  /** The last chunks. */
  end(done: ChatDone): ChatCompletionChunk[] {
    this.#model = done.receipt.model;
    const chunks = done.text === "" ? [] : [this.delta(done.text)];
    for (const call of toCallDeltas(done.toolCalls ?? [])) {
      const delta = { tool_calls: [call] };
      chunks.push(this.#chunk(this.#first ? { role: "assistant", ...delta } : delta, null));
    }
    const last = this.#chunk(this.#first ? { role: "assistant", content: "" } : {}, finishReason(done));
    chunks.push({ ...last, kwaainet: { receipt: done.receipt } });
    if (this.#usage) chunks.push({ ...last, choices: [], usage: usageOf(done.receipt) });
    return chunks;
  }

  completion(content: string, done: ChatDone): ChatCompletion {
    const { toolCalls: calls = [] } = done;
    const message: ChatCompletionMessage = {
      role: "assistant",
      // As OpenAI writes it: no content beside calls, and no list of calls that is empty.
      content: content === "" && calls.length > 0 ? null : content,
      refusal: null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    };
    return {
      id: this.#id,
      object: "chat.completion",
      created: this.#created,
      model: done.receipt.model,
      choices: [{ index: 0, message, logprobs: null, finish_reason: finishReason(done) }],
      usage: usageOf(done.receipt),
      kwaainet: { receipt: done.receipt },
    };
  }

  #chunk(
    delta: ChatCompletionChunkChoice["delta"],
    finish_reason: CompletionFinishReason | null,
  ): ChatCompletionChunk {
    this.#first = false;
    return {
      id: this.#id,
      object: "chat.completion.chunk",
      created: this.#created,
      model: this.#model,
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      ...(this.#usage ? { usage: null } : {}),
    };
  }
}

export function includesUsage(body: Record<string, unknown>): boolean {
  const { stream_options: options } = body;
  return (
    typeof options === "object" &&
    options !== null &&
    "include_usage" in options &&
    options.include_usage === true
  );
}

// `cancelled` never gets here: whoever cancelled has stopped listening.
function finishReason(done: ChatDone): CompletionFinishReason {
  return done.finishReason === "cancelled" ? "stop" : done.finishReason;
}

function usageOf(receipt: Receipt): CompletionUsage {
  const { promptTokens, completionTokens, reusedTokens } = receipt;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: reusedTokens },
  };
}

export interface OpenAiError {
  error: { message: string; type: string; param: null; code: ErrorCode };
}

const statuses: Partial<Record<ErrorCode, number>> = {
  badRequest: 400,
  contextTooLong: 400,
  consentRequired: 403,
  consentExpired: 403,
  notAllowed: 403,
  modelNotFound: 404,
  busy: 429,
  cancelled: 499,
  unsupported: 501,
  interrupted: 503,
  networkUnreachable: 503,
};

export function statusOf(code: ErrorCode): number {
  return statuses[code] ?? 500;
}

export function toOpenAiError(body: ErrorBody): OpenAiError {
  const status = statusOf(body.code);
  const type = status === 429 ? "rate_limit_error" : status < 500 ? "invalid_request_error" : "server_error";
  return { error: { message: body.message, type, param: null, code: body.code } };
}
