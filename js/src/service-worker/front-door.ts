/** `/kwaainet/v1/...` in the shape of OpenAI's HTTP API, answered by the node of this device. */
import type { NodeClient } from "../protocol/client.js";
import { errorToBody, KwaaiNetError } from "../protocol/errors.js";
import {
  CompletionWriter,
  includesUsage,
  statusOf,
  toChatRequest,
  toModelList,
  toOpenAiError,
} from "../protocol/openai.js";

export interface FrontDoorEnvironment {
  readonly client: NodeClient;
  /** Resolves when there is a node, rejects when none appears in time. */
  node(): Promise<void>;
  /** A stream to a page began or ended. */
  streaming(change: 1 | -1): void;
}

/** A stream's headers wait this long for the first news, so that an early error still has its HTTP status. */
const FIRST_NEWS_MS = 1_000;

/** The longest request body, in bytes; the node's own bound on a message is the same. */
const MOST_BODY_BYTES = 16 << 20;

export async function answer(
  route: string,
  request: Request,
  environment: FrontDoorEnvironment,
): Promise<Response> {
  try {
    return await routed(route, request, environment);
  } catch (error) {
    return failed(error);
  }
}

async function routed(route: string, request: Request, environment: FrontDoorEnvironment): Promise<Response> {
  const { client, node } = environment;
  const { method } = request;
  if (method === "GET" && route === "health") {
    await node();
    return json({ status: "ok", epoch: client.epoch });
  }
  if (method === "GET" && route === "models") {
    await node();
    return json(toModelList(await client.models()));
  }
  if (method === "GET" && route.startsWith("models/")) {
    await node();
    const id = decodeURIComponent(route.slice("models/".length));
    const model = toModelList(await client.models()).data.find((entry) => entry.id === id);
    if (model === undefined) throw new KwaaiNetError("modelNotFound", `There is no model ${id} here.`);
    return json(model);
  }
  if (method === "POST" && route === "chat/completions") return complete(request, environment);
  const message = `${method} ${new URL(request.url).pathname} is not served here: use models, chat/completions or health.`;
  return json(toOpenAiError({ code: "badRequest", message, retryable: false }), 404);
}

async function complete(request: Request, environment: FrontDoorEnvironment): Promise<Response> {
  const body = await readBody(request);
  const chat = toChatRequest(body, undefined);
  const writer = new CompletionWriter(chat.model ?? "", includesUsage(body));
  await environment.node();
  const { stream } = body;
  if (stream === true) return streamed(chat, writer, environment);
  let content = "";
  const onDelta = (delta: { text: string }) => {
    content += delta.text;
  };
  const done = await environment.client.chat(chat, { signal: request.signal, onDelta });
  return json(writer.completion(content + done.text, done));
}

/**
 * Never with `waitUntil`: Chromium ends a streamed answer after 310 s as soon as that is used. `[DONE]` is sent only
 * at the true end, because Firefox lets a stream of a killed service worker end as if it were complete.
 */
async function streamed(
  chat: Parameters<NodeClient["chat"]>[0],
  writer: CompletionWriter,
  { client, streaming }: FrontDoorEnvironment,
): Promise<Response> {
  const encoder = new TextEncoder();
  const stop = new AbortController();
  let news: (error?: unknown) => void = () => {};
  const first = new Promise<unknown>((resolve) => {
    news = resolve;
  });
  let open = true;
  const end = () => {
    if (open) streaming(-1);
    open = false;
  };
  const events = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (data: unknown) => {
        const text = typeof data === "string" ? data : JSON.stringify(data);
        if (open) controller.enqueue(encoder.encode(`data: ${text}\n\n`));
      };
      const onDelta = (delta: { text: string }) => {
        if (delta.text !== "") send(writer.delta(delta.text));
        news();
      };
      const onProgress = () => news();
      client.chat(chat, { signal: stop.signal, onDelta, onProgress }).then(
        (done) => {
          for (const chunk of writer.end(done)) send(chunk);
          send("[DONE]");
          end();
          news();
          controller.close();
        },
        (error: unknown) => {
          send(toOpenAiError(errorToBody(error)));
          news(error);
          // A reader that cancelled has closed the stream already.
          if (open) controller.close();
          end();
        },
      );
    },
    cancel() {
      end();
      stop.abort();
    },
  });
  streaming(1);
  setTimeout(news, FIRST_NEWS_MS);
  const error = await first;
  if (error !== undefined) return failed(error);
  const headers = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" };
  return new Response(events, { headers });
}

async function readBody(request: Request): Promise<Record<string, unknown>> {
  const text = await request.text();
  if (text.length > MOST_BODY_BYTES) {
    throw new KwaaiNetError("badRequest", `The body has more than ${MOST_BODY_BYTES} characters.`);
  }
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body))
      return body as Record<string, unknown>;
  } catch {
    // The same answer as for JSON that is no object.
  }
  throw new KwaaiNetError("badRequest", "The body is not a JSON object.");
}

function failed(error: unknown): Response {
  const body = errorToBody(error);
  return json(toOpenAiError(body), statusOf(body.code));
}

function json(body: object, status = 200): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });
}
