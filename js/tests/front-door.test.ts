/** `/kwaainet/v1/...` as the official OpenAI client sees it. */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { NodeClient } from "../src/protocol/client.js";
import { KwaaiNetError } from "../src/protocol/errors.js";
import { answer, type FrontDoorEnvironment } from "../src/service-worker/front-door.js";
import { isShell } from "../src/service-worker/shell.js";
import { FakeNode, textOf } from "./support/fake-node.js";
import { portPair } from "./support/ports.js";

function door(more: Partial<FrontDoorEnvironment> = {}) {
  const [here, there] = portPair();
  const node = new FakeNode();
  node.serve(there);
  const client = new NodeClient();
  client.attach(here);
  let open = 0;
  const environment: FrontDoorEnvironment = {
    client,
    node: async () => {},
    streaming: (change) => {
      open += change;
    },
    ...more,
  };
  const fetch = (input: RequestInfo | URL, init?: RequestInit) => {
    const request = new Request(input, init);
    return answer(new URL(request.url).pathname.replace("/kwaainet/v1/", ""), request, environment);
  };
  const openai = new OpenAI({
    baseURL: "https://site.example/kwaainet/v1",
    apiKey: "none",
    fetch,
    maxRetries: 0,
  });
  return { node, openai, fetch, open: () => open };
}

const messages = [{ role: "user" as const, content: "Hi" }];

describe("the official client", () => {
  test("lists models", async () => {
    const { openai } = door();
    const ids = [];
    for await (const { id } of openai.models.list()) ids.push(id);
    expect(ids).toEqual(["fake"]);
    expect((await openai.models.retrieve("fake")).id).toBe("fake");
    await expect(openai.models.retrieve("gpt-9")).rejects.toMatchObject({
      status: 404,
      code: "modelNotFound",
    });
  });

  test("gets a completion with its usage", async () => {
    const { openai } = door();
    const completion = await openai.chat.completions.create({
      model: "fake",
      messages,
      seed: 3,
      max_tokens: 5,
    });
    expect(completion.choices[0]?.message.content).toBe(textOf(3, 5));
    expect(completion.choices[0]?.finish_reason).toBe("length");
    expect(completion.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 5, total_tokens: 8 });
  });

  test("streams one, and the usage if it asks for it", async () => {
    const { openai, open } = door();
    const stream = await openai.chat.completions.create({
      model: "fake",
      messages,
      seed: 3,
      max_completion_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage: OpenAI.CompletionUsage | null | undefined = null;
    const reasons: unknown[] = [];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(textOf(3, 20));
    expect(reasons).toEqual(["length"]);
    expect(usage?.total_tokens).toBe(23);
    expect(open()).toBe(0);
  });

  test("calls tools, at once and streamed", async () => {
    const { openai } = door();
    const tools = ["f", "g"].map((name) => ({ type: "function" as const, function: { name } }));
    const request = { model: "fake", messages, tools, seed: 3, max_tokens: 2 };
    const { choices } = await openai.chat.completions.create(request);
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", message: { content: textOf(3, 2) } });
    const calls = choices[0]?.message.tool_calls;
    expect(calls?.map(({ id, type }) => [id, type])).toEqual([
      ["call0", "function"],
      ["call1", "function"],
    ]);
    // Their own reader puts the pieces together.
    const streamed = await openai.chat.completions.stream(request).finalChatCompletion();
    expect(streamed.choices[0]?.finish_reason).toBe("tool_calls");
    expect(streamed.choices[0]?.message.content).toBe(textOf(3, 2));
    expect(streamed.choices[0]?.message.tool_calls).toMatchObject(calls ?? []);
    const silent = await openai.chat.completions.create({ ...request, max_tokens: 0 });
    expect(silent.choices[0]?.message.content).toBeNull();
  });

  test("stops the node when it stops reading", async () => {
    const { openai, node, open } = door();
    const stream = await openai.chat.completions.create({
      model: "fake",
      messages,
      max_tokens: 5000,
      stream: true,
    });
    for await (const _ of stream) break;
    await expect.poll(() => node.cancelled.length).toBe(1);
    expect(open()).toBe(0);
  });

  test("is told that there is no node", async () => {
    const none = new KwaaiNetError("interrupted", "No tab runs KwaaiNet", { retryable: true });
    const { openai } = door({ node: () => Promise.reject(none) });
    await expect(openai.models.list()).rejects.toMatchObject({ status: 503, code: "interrupted" });
  });

  test("is told about requests that cannot be served", async () => {
    const { openai } = door();
    const embeddings = openai.embeddings.create({ model: "fake", input: "x" });
    await expect(embeddings).rejects.toMatchObject({ status: 404, type: "invalid_request_error" });
  });
});

describe("the wire", () => {
  const post = (body: string) => ({ method: "POST", body });
  const url = "https://site.example/kwaainet/v1/chat/completions";

  test("ends a stream with [DONE], and only a whole one", async () => {
    const { fetch } = door();
    const request = post(JSON.stringify({ messages, stream: true, seed: 1, max_tokens: 3 }));
    const response = await fetch(url, request);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const lines = (await response.text()).trim().split("\n\n");
    expect(lines.at(-1)).toBe("data: [DONE]");
    expect(lines.every((line) => line.startsWith("data: "))).toBe(true);
    expect(JSON.parse(lines.at(-2)?.slice(6) ?? "")).toMatchObject({ kwaainet: { receipt: { seed: 1 } } });
  });

  test.each(["", "{", "[]", "5", "null"])("refuses the body %j", async (body) => {
    const { fetch } = door();
    const response = await fetch(url, post(body));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: "badRequest", type: "invalid_request_error" },
    });
  });

  test("takes null for unset, as OpenAI does", async () => {
    const { fetch, node } = door();
    await fetch(url, post(JSON.stringify({ messages, temperature: null, seed: 1, stop: null, user: "x" })));
    const [command] = node.commands;
    expect(command?.type === "chat" && Object.keys(command.request).sort()).toEqual(["messages", "seed"]);
  });

  test("hands a schema on as text, in the order in which it was written", async () => {
    const { fetch, node } = door();
    const schema = { type: "object", properties: { z: { const: 1 }, a: { const: 2 } } };
    const formats = [
      { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
      { type: "grammar", grammar: "root ::= .*" },
      { type: "json_schema" },
    ];
    for (const response_format of formats)
      await fetch(url, post(JSON.stringify({ messages, response_format })));
    const sent = node.commands.map((command) => command.type === "chat" && command.request.response_format);
    expect(sent).toEqual([{ type: "json_schema", schema: JSON.stringify(schema) }, ...formats.slice(1)]);
  });

  test("hands tools on with their schemas as text", async () => {
    const { fetch, node } = door();
    const parameters = { type: "object", properties: { z: {}, a: {} } };
    const named = { type: "function", function: { name: "f", description: null, parameters, strict: true } };
    const choices = ["required", { type: "function", function: { name: "f" } }, { type: "tool" }, null];
    for (const tool_choice of choices)
      await fetch(url, post(JSON.stringify({ messages, tools: [named, { type: "other" }], tool_choice })));
    const sent = node.commands.map((command) => (command.type === "chat" ? command.request : undefined));
    expect(sent[0]?.tools).toEqual([
      { name: "f", parameters: JSON.stringify(parameters) },
      { type: "other" },
    ]);
    expect(sent.map((request) => request?.tool_choice)).toEqual([
      { type: "required" },
      { type: "function", name: "f" },
      { type: "tool" },
      undefined,
    ]);
  });

  test("answers health", async () => {
    const { fetch } = door();
    const response = await fetch("https://site.example/kwaainet/v1/health");
    expect(await response.json()).toMatchObject({ status: "ok" });
  });
});

test("the shell is our folder and nothing else of a site", () => {
  const folder = "https://cdn.example/kwaainet/";
  const ours = ["frame.html", "frame.html?x", "assets/worker-abc.js", "assets/simd-abc.wasm"];
  const theirs = [
    "models/a.gguf",
    "sovereign-ai.js",
    "assets/deep/x.js",
    "kwaainet-sw.js",
    "models.json",
    "",
  ];
  for (const path of ours) expect(isShell(new URL(path, folder), folder), path).toBe(true);
  for (const path of theirs) expect(isShell(new URL(path, folder), folder), path).toBe(false);
  expect(isShell(new URL("https://other.example/kwaainet/frame.html"), folder)).toBe(false);
});
