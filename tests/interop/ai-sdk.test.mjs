/** Vercel's AI SDK with `@ai-sdk/openai-compatible`, unmodified, against `kwaainet serve`. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { MODEL, modelFile, serve } from "./server.mjs";

const skip = modelFile()
  ? false
  : "SKIPPED, LOUDLY: the model is not in .cache/models (npm run build fetches it)";
const prompt = "What is the capital of France? Answer in one short sentence.";

describe("@ai-sdk/openai-compatible", { skip, timeout: 300_000 }, () => {
  let server;
  let provider;

  before(async () => {
    server = await serve();
    provider = createOpenAICompatible({ name: "kwaainet", baseURL: server.url, includeUsage: true });
  });
  after(async () => {
    assert.equal(await server?.stop(), 0);
  });

  test("generateText", async () => {
    const { text, usage, finishReason } = await generateText({
      model: provider(MODEL),
      system: "You are a helpful assistant.",
      prompt,
      temperature: 0,
      maxOutputTokens: 24,
      maxRetries: 0,
    });
    assert.match(text, /Paris/);
    assert.ok(usage.inputTokens > 5 && usage.outputTokens > 0);
    assert.ok(["stop", "length"].includes(finishReason));
  });

  test("streamText gives the same text, and usage", async () => {
    const request = { model: provider(MODEL), prompt, temperature: 0, maxOutputTokens: 24, maxRetries: 0 };
    const whole = await generateText(request);
    const stream = streamText(request);
    let text = "";
    let pieces = 0;
    for await (const piece of stream.textStream) {
      text += piece;
      pieces += 1;
    }
    assert.equal(text, whole.text);
    assert.ok(pieces > 1);
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
  });

  test("generateObject", async () => {
    const structured = createOpenAICompatible({
      name: "kwaainet",
      baseURL: server.url,
      supportsStructuredOutputs: true,
    });
    const schema = jsonSchema({
      type: "object",
      properties: { city: { type: "string", maxLength: 40 }, isCapital: { type: "boolean" } },
      required: ["city", "isCapital"],
      additionalProperties: false,
    });
    const { object } = await generateObject({
      model: structured(MODEL),
      schema,
      prompt: "Name a city in France.",
      temperature: 0,
      maxOutputTokens: 100,
      maxRetries: 0,
    });
    assert.equal(typeof object.city, "string");
    assert.equal(typeof object.isCapital, "boolean");
  });

  test("tools, called and answered in steps", async () => {
    const asked = [];
    const weather = tool({
      description: "The weather of a city",
      inputSchema: jsonSchema({
        type: "object",
        properties: { city: { type: "string", maxLength: 30 } },
        required: ["city"],
        additionalProperties: false,
      }),
      execute: ({ city }) => {
        asked.push(city);
        return { degrees: 18 };
      },
    });
    const { steps } = await generateText({
      model: provider(MODEL),
      prompt: "What is the weather in Paris?",
      tools: { weather },
      temperature: 0,
      maxOutputTokens: 100,
      maxRetries: 0,
      stopWhen: stepCountIs(2),
      // The first step must call, the second cannot.
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    });
    assert.equal(steps[0].finishReason, "tool-calls");
    assert.deepEqual(
      steps[0].toolResults.map((result) => [result.input.city, result.output]),
      [[asked[0], { degrees: 18 }]],
    );
    assert.equal(typeof asked[0], "string");
    assert.ok(steps[1].text.length > 0);
  });

  test("streams a call", async () => {
    const stream = streamText({
      model: provider(MODEL),
      prompt: "What time is it?",
      tools: { now: tool({ inputSchema: jsonSchema({ type: "object", properties: {} }) }) },
      toolChoice: "required",
      temperature: 0,
      maxOutputTokens: 100,
      maxRetries: 0,
    });
    assert.equal((await stream.toolCalls)[0].toolName, "now");
    assert.equal(await stream.finishReason, "tool-calls");
  });

  test("aborting a stream ends it", async () => {
    const controller = new AbortController();
    let aborted = false;
    const stream = streamText({
      model: provider(MODEL),
      prompt: "Tell me a very long story.",
      maxOutputTokens: 1500,
      abortSignal: controller.signal,
      maxRetries: 0,
      onAbort: () => {
        aborted = true;
      },
    });
    for await (const _ of stream.textStream) controller.abort();
    assert.ok(aborted);
  });

  test("text completion models", async () => {
    const { text } = await generateText({
      model: provider.completionModel(MODEL),
      prompt: "x",
      maxOutputTokens: 4,
      temperature: 0,
      maxRetries: 0,
    });
    assert.ok(text.length > 0);
  });

  test("errors are theirs", async () => {
    const ask = generateText({ model: provider("no-such-model"), prompt, maxRetries: 0 });
    await assert.rejects(ask, (error) => {
      assert.ok(APICallError.isInstance(error), `${error}`);
      assert.equal(error.statusCode, 404);
      assert.match(error.message, /no-such-model/);
      return true;
    });
  });
});
