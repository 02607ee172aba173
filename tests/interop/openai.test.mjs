/** The official OpenAI client, unmodified, against `kwaainet serve`. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { MODEL, modelFile, serve } from "./server.mjs";

const QUESTION = [{ role: "user", content: "What is the capital of France? Answer in one short sentence." }];
const TOOLS = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather of a city",
      parameters: {
        type: "object",
        properties: {
          unit: { enum: ["C", "F"] },
          city: { type: "string", maxLength: 30 },
          days: { type: "integer", minimum: 1, maximum: 9 },
        },
        required: ["unit", "city"],
        additionalProperties: false,
      },
    },
  },
];

/** What a validator would say, for this one schema. */
function checkArguments({ name, arguments: text }) {
  assert.equal(name, "get_weather");
  const { unit, city, days = 1, ...others } = JSON.parse(text);
  assert.ok(["C", "F"].includes(unit), text);
  assert.ok(typeof city === "string" && city.length <= 30, text);
  assert.ok(Number.isInteger(days) && days >= 1 && days <= 9, text);
  assert.deepEqual(others, {});
}

const skip = modelFile()
  ? false
  : "SKIPPED, LOUDLY: the model is not in .cache/models (npm run build fetches it)";

describe("openai", { skip, timeout: 300_000 }, () => {
  let server;
  let client;

  before(async () => {
    server = await serve();
    client = new OpenAI({ baseURL: server.url, apiKey: "none", maxRetries: 0 });
  });
  after(async () => {
    assert.equal(await server?.stop(), 0, "SIGTERM ends the server cleanly");
  });

  test("lists and retrieves models", async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, [MODEL]);
    const model = await client.models.retrieve(MODEL);
    assert.equal(model.object, "model");
    await assert.rejects(client.models.retrieve("gpt-4"), (error) => error instanceof OpenAI.NotFoundError);
  });

  test("answers a chat, the same for the same seed", async () => {
    const ask = () =>
      client.chat.completions.create({
        model: MODEL,
        messages: QUESTION,
        max_tokens: 24,
        temperature: 0.7,
        seed: 7,
      });
    const [first, second] = [await ask(), await ask()];
    const [choice] = first.choices;
    assert.equal(first.object, "chat.completion");
    assert.equal(choice.message.role, "assistant");
    assert.ok(choice.message.content.length > 0);
    assert.ok(["stop", "length"].includes(choice.finish_reason));
    assert.ok(first.usage.prompt_tokens > 5 && first.usage.completion_tokens > 0);
    assert.equal(first.usage.total_tokens, first.usage.prompt_tokens + first.usage.completion_tokens);
    assert.equal(second.choices[0].message.content, choice.message.content);
  });

  test("knows the capital of France", async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages: QUESTION,
      max_tokens: 24,
      temperature: 0,
    });
    assert.match(answer.choices[0].message.content, /Paris/);
  });

  test("streams the same text, with usage at the end", async () => {
    const request = { model: MODEL, messages: QUESTION, max_tokens: 24, temperature: 0, seed: 1 };
    const whole = await client.chat.completions.create(request);
    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage = null;
    let finish = null;
    let pieces = 0;
    for await (const chunk of stream) {
      assert.equal(chunk.object, "chat.completion.chunk");
      if (chunk.usage) usage = chunk.usage;
      const [choice] = chunk.choices;
      if (!choice) continue;
      if (choice.delta.content) pieces += 1;
      text += choice.delta.content ?? "";
      finish = choice.finish_reason ?? finish;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.ok(pieces > 1, "it came in pieces");
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  });

  test("has the client's own stream helper", async () => {
    const runner = client.chat.completions.stream({
      model: MODEL,
      messages: QUESTION,
      max_tokens: 8,
      temperature: 0,
    });
    const final = await runner.finalChatCompletion();
    assert.ok(final.choices[0].message.content.length > 0);
  });

  test("stops at stop strings and at max_completion_tokens", async () => {
    const stopped = await client.completions.create({
      model: MODEL,
      prompt: "1, 2, 3, 4, 5,",
      max_tokens: 32,
      temperature: 0,
      stop: [" 8"],
    });
    assert.equal(stopped.choices[0].finish_reason, "stop");
    assert.ok(!stopped.choices[0].text.includes("8"));
    const cut = await client.chat.completions.create({
      model: MODEL,
      messages: QUESTION,
      max_completion_tokens: 1,
      temperature: 0,
    });
    assert.equal(cut.choices[0].finish_reason, "length");
    assert.equal(cut.usage.completion_tokens, 1);
  });

  test("answers with JSON that is valid under a schema, and follows a grammar", async () => {
    const schema = {
      type: "object",
      properties: {
        zone: { enum: ["Europe", "Asia", "Africa"] },
        city: { type: "string", maxLength: 30 },
        bridges: { type: "integer", minimum: 1, maximum: 99 },
      },
      required: ["zone", "city", "bridges"],
      additionalProperties: false,
    };
    const ask = (response_format, change) =>
      client.chat.completions.create({
        model: MODEL,
        messages: [{ role: "user", content: "Describe a city as JSON." }],
        response_format,
        max_tokens: 200,
        ...change,
      });
    for (const temperature of [0, 1.5]) {
      const answer = await ask(
        { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
        { temperature, seed: 5 },
      );
      assert.equal(answer.choices[0].finish_reason, "stop");
      const city = JSON.parse(answer.choices[0].message.content);
      // In the order of the schema, which is not the alphabet's.
      assert.deepEqual(Object.keys(city), ["zone", "city", "bridges"]);
      assert.ok(schema.properties.zone.enum.includes(city.zone));
      assert.ok(Number.isInteger(city.bridges) && city.bridges >= 1 && city.bridges <= 99);
    }
    const yes = await ask({ type: "grammar", grammar: 'root ::= "yes" | "no"' }, { temperature: 1 });
    assert.match(yes.choices[0].message.content, /^(yes|no)$/);
    const recursive = {
      type: "json_schema",
      json_schema: { name: "x", schema: { type: "string", pattern: "(" } },
    };
    await assert.rejects(ask(recursive), (error) => {
      assert.ok(error instanceof OpenAI.APIError && error.status === 400, `${error}`);
      assert.match(error.message, /pattern/);
      return true;
    });
  });

  test("calls a tool, takes its result, and streams the same call", async () => {
    const request = {
      model: MODEL,
      messages: [{ role: "user", content: "What is the weather in Paris in Celsius?" }],
      tools: TOOLS,
      temperature: 0,
      max_tokens: 120,
    };
    const ask = (change) => client.chat.completions.create({ ...request, ...change });
    for (const change of [
      { tool_choice: "required" },
      { tool_choice: { type: "function", function: { name: "get_weather" } }, temperature: 1.5, seed: 4 },
    ]) {
      const [{ message, finish_reason }] = (await ask(change)).choices;
      assert.deepEqual([finish_reason, message.content, message.tool_calls.length], ["tool_calls", null, 1]);
      const [call] = message.tool_calls;
      assert.equal(call.type, "function");
      checkArguments(call.function);

      const stream = client.chat.completions.stream({ ...request, ...change });
      const streamed = await stream.finalChatCompletion();
      assert.equal(streamed.choices[0].finish_reason, "tool_calls");
      assert.deepEqual(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);

      const result = { role: "tool", tool_call_id: call.id, content: '{"degrees": 18, "sky": "clear"}' };
      const conversation = [...request.messages, message, result];
      // Without tools, and with tools that it may not call, the model can only answer.
      for (const rest of [{ tools: undefined }, { tool_choice: "none" }]) {
        const answer = await ask({ messages: conversation, ...rest });
        assert.ok(answer.choices[0].message.content.length > 0);
        assert.equal(answer.choices[0].message.tool_calls, undefined);
      }
      const stray = [{ ...result, tool_call_id: "nobody" }];
      await assert.rejects(ask({ messages: [...request.messages, ...stray] }), /nobody/);
    }
  });

  test("writes text where it calls nothing, in pieces, and no half calls", async () => {
    const request = { model: MODEL, messages: QUESTION, tools: TOOLS, temperature: 0, max_tokens: 60 };
    const whole = await client.chat.completions.create(request);
    const stream = await client.chat.completions.create({ ...request, stream: true });
    let text = "";
    let calls = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0].delta.content ?? "";
      calls += chunk.choices[0].delta.tool_calls?.length ?? 0;
    }
    assert.equal(text, whole.choices[0].message.content ?? "");
    assert.equal(calls > 0, whole.choices[0].message.tool_calls !== undefined);
    const cut = await client.chat.completions.create({ ...request, tool_choice: "required", max_tokens: 6 });
    assert.equal(cut.choices[0].finish_reason, "length");
    assert.deepEqual([cut.choices[0].message.content, cut.choices[0].message.tool_calls], ["", undefined]);
  });

  test("runs the client's own loop of calls", async () => {
    const asked = [];
    const [{ function: offered }] = TOOLS;
    const runner = client.chat.completions.runTools(
      {
        model: MODEL,
        messages: [{ role: "user", content: "What is the weather in Paris?" }],
        temperature: 0,
        max_tokens: 120,
        tool_choice: { type: "function", function: { name: offered.name } },
        tools: [
          {
            type: "function",
            function: {
              ...offered,
              parse: JSON.parse,
              function: (given) => {
                asked.push(given);
                return "18 degrees";
              },
            },
          },
        ],
      },
      { maxChatCompletions: 1 },
    );
    await runner.done();
    assert.equal(typeof asked[0]?.city, "string");
  });

  test("completes a text without a template, and streams it", async () => {
    const request = { model: MODEL, prompt: "The capital of France is", max_tokens: 6, temperature: 0 };
    const whole = await client.completions.create(request);
    assert.equal(whole.object, "text_completion");
    assert.match(whole.choices[0].text, /Paris/);
    let text = "";
    for await (const chunk of await client.completions.create({ ...request, stream: true }))
      text += chunk.choices[0].text;
    assert.equal(text, whole.choices[0].text);
  });

  test("says in OpenAI's shape what is wrong", async () => {
    const ask = (change) =>
      client.chat.completions.create({ model: MODEL, messages: QUESTION, max_tokens: 1, ...change });
    const refused = (status, code, param) => (error) => {
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.deepEqual([error.status, error.code, error.param ?? undefined], [status, code, param]);
      assert.ok(error.message.length > 20);
      return true;
    };
    await assert.rejects(ask({ model: "gpt-4o" }), refused(404, "model_not_found"));
    await assert.rejects(ask({ messages: [] }), refused(400, "invalid_value"));
    await assert.rejects(ask({ temperature: 99 }), refused(400, "invalid_value"));
    await assert.rejects(ask({ functions: [{ name: "f" }] }), refused(400, "invalid_value", "functions"));
    const offer = (tool, change) => ask({ tools: [{ type: "function", function: tool }], ...change });
    for (const [tool, change, named] of [
      [{ name: "two words" }, {}, /two words/],
      [
        { name: "f", parameters: { type: "object", properties: { x: { pattern: "a" } } } },
        {},
        /"f".*pattern/,
      ],
      [{ name: "f" }, { tool_choice: { type: "function", function: { name: "g" } } }, /"g"/],
      [{ name: "f" }, { response_format: { type: "json_object" } }, /response_format/],
    ]) {
      await assert.rejects(offer(tool, change), named);
      await assert.rejects(offer(tool, change), refused(400, "invalid_value"));
    }
    await assert.rejects(
      offer({ name: "f" }, { tool_choice: "any" }),
      refused(400, "invalid_value", "tool_choice"),
    );
    await assert.rejects(
      ask({ messages: [{ role: "user", content: "word ".repeat(5000) }] }),
      refused(400, "context_length_exceeded"),
    );
    await assert.rejects(
      ask({ messages: [{ role: "user", content: "word ".repeat(5000) }], stream: true }),
      refused(400, "context_length_exceeded"),
    );
    await assert.rejects(client.embeddings.create({ model: MODEL, input: "x" }), refused(400, "unsupported"));
    await assert.rejects(client.get("/nonsense"), refused(404, "unknown_url"));
  });

  test("a client that goes away frees the engine", async () => {
    const long = {
      model: MODEL,
      messages: [{ role: "user", content: "Tell me a very long story." }],
      max_tokens: 1500,
      temperature: 1,
      seed: 3,
    };
    const stream = await client.chat.completions.create({ ...long, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    const controller = new AbortController();
    const silent = client.chat.completions.create(long, { signal: controller.signal });
    setTimeout(() => controller.abort(), 300);
    await assert.rejects(silent, (error) => error instanceof OpenAI.APIUserAbortError);
    // Either of the two would keep the only engine busy for much longer than that.
    const begin = Date.now();
    await client.chat.completions.create({ model: MODEL, messages: QUESTION, max_tokens: 1 });
    assert.ok(Date.now() - begin < 15_000, `the next answer took ${Date.now() - begin} ms`);
  });

  test("answers many at once, or says that it is busy", async () => {
    const asks = Array.from({ length: 48 }, (_, seed) =>
      client.chat.completions.create({ model: MODEL, messages: QUESTION, max_tokens: 2, seed }).then(
        () => "answered",
        (error) => {
          assert.ok(error instanceof OpenAI.RateLimitError, `${error}`);
          assert.equal(error.code, "busy");
          return "busy";
        },
      ),
    );
    const outcomes = await Promise.all(asks);
    assert.ok(outcomes.filter((outcome) => outcome === "answered").length >= 32);
    assert.equal(outcomes.length, 48);
  });
});

describe("openai with a key", { skip, timeout: 120_000 }, () => {
  test("the key must be the key", async () => {
    const server = await serve(["--api-key", "sesame"]);
    try {
      const wrong = new OpenAI({ baseURL: server.url, apiKey: "wrong", maxRetries: 0 });
      await assert.rejects(wrong.models.list(), (error) => error instanceof OpenAI.AuthenticationError);
      const right = new OpenAI({ baseURL: server.url, apiKey: "sesame", maxRetries: 0 });
      assert.equal((await right.models.list()).data.length, 1);
    } finally {
      await server.stop();
    }
  });
});
