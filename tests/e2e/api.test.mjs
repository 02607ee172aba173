/** What a web developer finds on the page. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { build } from "esbuild";
import { closeSites, MODEL, pageWithTag, startVisitor, theSites, until } from "./support/world.mjs";

after(closeSites);

async function withVisitor(options, run) {
  const sites = await theSites();
  sites.reset();
  const visitor = await startVisitor(options);
  try {
    await run(visitor, sites);
  } finally {
    await visitor.close();
  }
}

const withTab = (options, run) =>
  withVisitor({ warm: true, ...options }, async (visitor, sites) =>
    run(await visitor.open(options), visitor, sites),
  );

describe("the tag", () => {
  test("leaves the instance and the class, and touches nothing else of the page", () =>
    withTab({ warm: false }, async (tab) => {
      const { value } = await tab.attempt(() => {
        const plain = document.createElement("iframe");
        document.body.append(plain);
        const before = new Set(Object.getOwnPropertyNames(plain.contentWindow));
        plain.remove();
        return {
          isInstance: window.kwaainet instanceof window.KwaaiNet,
          added: Object.getOwnPropertyNames(window).filter(
            (name) => !before.has(name) && !/^\d+$/.test(name),
          ),
          text: document.querySelector("p").textContent,
        };
      });
      assert.equal(value.isInstance, true);
      assert.deepEqual(value.added.sort(), ["KwaaiNet", "kwaainet"]);
      assert.equal(value.text, "It was here before.");
    }));

  test("warns by name about attributes and values that it does not know, with the nearest right one", () =>
    withTab(
      {
        warm: false,
        attributes: {
          sevices: "compute",
          services: "compute,storag",
          "max-resources": "cpu:200,memori:1gb",
          "reward-split": "70/40",
          host: "servce-worker",
        },
      },
      async (tab) => {
        await until("the warnings", () => tab.said(/data-/).length >= 4);
        const said = tab.said(/data-/).join("\n");
        for (const [wrong, right] of [
          ["data-sevices", "data-services"],
          ["storag", "storage"],
          ["memori", "memory"],
          ["servce-worker", "service-worker"],
        ]) {
          assert.match(said, new RegExp(wrong), `${wrong} is named`);
          assert.match(said, new RegExp(right), `${right} is offered instead of ${wrong}`);
        }
        assert.match(said, /reward-split/);
        assert.deepEqual(tab.said(/^uncaught/), [], "the page goes on");
      },
    ));
});

describe("the API", () => {
  test("a prompt longer than the context is refused with both numbers", () =>
    withTab({}, async (tab) => {
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({
          messages: [{ role: "user", content: "word ".repeat(20_000) }],
        }),
      );
      assert.equal(error.code, "contextTooLong");
      assert.equal(error.name, "KwaaiNetError");
      assert.equal(error.retryable, false);
      const numbers = error.message.match(/\d[\d,]*/g) ?? [];
      assert.ok(numbers.length >= 2, error.message);
    }));

  test("a thousand commands at once: busy for some, an answer for every one, nothing lost", () =>
    withTab({}, async (tab) => {
      await tab.ask("Hi", { max_tokens: 1 });
      const { value } = await tab.attempt(async () => {
        const calls = Array.from({ length: 1000 }, () => window.kwaainet.models.list());
        const outcomes = await Promise.allSettled(calls);
        const codes = {};
        for (const { status, reason } of outcomes) {
          const word = status === "fulfilled" ? "answered" : reason.code;
          codes[word] = (codes[word] ?? 0) + 1;
        }
        return codes;
      });
      const { answered = 0, busy = 0, ...others } = value;
      assert.deepEqual(others, {}, "no other error");
      assert.equal(answered + busy, 1000);
      assert.ok(answered >= 64, `${answered} were answered`);
      assert.equal((await tab.ask("Hi", { max_tokens: 2 })).finish, "length", "and it goes on working");
    }));

  test("the same seed gives the same text, another seed another one", () =>
    withTab({}, async (tab) => {
      const ask = (seed) => tab.ask("Tell me something.", { temperature: 1.2, seed, max_tokens: 24 });
      const [one, again, other] = [await ask(1), await ask(1), await ask(2)];
      assert.equal(one.text, again.text);
      assert.notEqual(one.text, other.text);
    }));

  test("the model calls a tool, and answers with what it gave", () =>
    withTab({}, async (tab) => {
      const { value, error } = await tab.attempt(async () => {
        const parameters = {
          type: "object",
          properties: {
            city: { enum: ["Paris", "Berlin"] },
            days: { type: "integer", minimum: 1, maximum: 9 },
          },
          required: ["city", "days"],
          additionalProperties: false,
        };
        const messages = [{ role: "user", content: "How will the weather be in Paris for three days?" }];
        const asked = {
          tools: [
            { type: "function", function: { name: "weather", description: "The forecast", parameters } },
          ],
          temperature: 0,
          max_tokens: 100,
        };
        const create = (more) => window.kwaainet.chat.completions.create({ messages, ...asked, ...more });
        const called = await create({ tool_choice: "required" });
        const [{ message, finish_reason: finish }] = called.choices;
        messages.push(message);
        messages.push({
          role: "tool",
          tool_call_id: message.tool_calls[0].id,
          content: "Sunny, 21 degrees.",
        });
        const answered = await create({ tool_choice: "none", max_tokens: 30 });
        return { message, finish, answer: answered.choices[0].message.content };
      });
      assert.equal(error, undefined, JSON.stringify(error));
      assert.equal(value.finish, "tool_calls");
      const [{ type, function: called }] = value.message.tool_calls;
      assert.deepEqual([type, called.name], ["function", "weather"]);
      const { city, days } = JSON.parse(called.arguments);
      assert.ok(["Paris", "Berlin"].includes(city) && days >= 1 && days <= 9, called.arguments);
      assert.ok(value.answer.length > 0);
    }));

  test("an answer follows a JSON schema, and a schema that cannot be enforced is refused with its place", () =>
    withTab({}, async (tab) => {
      const ask = (schema) =>
        tab.attempt(async (schema) => {
          const answer = await window.kwaainet.chat.completions.create({
            messages: [{ role: "user", content: "Describe a city as JSON." }],
            response_format: { type: "json_schema", json_schema: { name: "city", schema } },
            max_tokens: 100,
            temperature: 1.5,
            seed: 3,
          });
          return answer.choices[0].message.content;
        }, schema);
      const properties = {
        zone: { enum: ["Asia", "Europe"] },
        bridges: { type: "integer", minimum: 0, maximum: 99 },
      };
      const required = Object.keys(properties);
      const { value, error } = await ask({
        type: "object",
        properties,
        required,
        additionalProperties: false,
      });
      assert.equal(error, undefined, JSON.stringify(error));
      const city = JSON.parse(value);
      assert.deepEqual(Object.keys(city), required);
      assert.ok(properties.zone.enum.includes(city.zone) && city.bridges >= 0 && city.bridges <= 99, value);
      const refused = await ask({ type: "object", properties: { name: { type: "string", pattern: "x" } } });
      assert.equal(refused.error.code, "badRequest");
      assert.match(refused.error.message, /properties\/name.*pattern|pattern.*properties\/name/);
    }));

  test("an unknown model is a named error", () =>
    withTab({}, async (tab) => {
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({
          model: "gpt-9",
          messages: [{ role: "user", content: "Hi" }],
        }),
      );
      assert.equal(error.code, "modelNotFound");
    }));

  test("wrong requests are refused with the field's name", () =>
    withTab({}, async (tab) => {
      const wrong = [
        [{ messages: [] }, /messages/],
        [{ messages: [{ role: "user", content: "Hi" }], n: 2 }, /\bn\b/],
        [{ messages: [{ role: "user", content: "Hi" }], temperature: 1e39 }, /temperature/],
        [{ messages: [{ role: "user", content: "Hi" }], max_tokens: 0 }, /max_tokens/],
      ];
      for (const [request, pattern] of wrong) {
        const { error } = await tab.attempt((body) => window.kwaainet.chat.completions.create(body), request);
        assert.equal(error?.code, "badRequest", JSON.stringify(request));
        assert.match(error.message, pattern);
      }
    }));

  test("lists the models in OpenAI's shape, and what of them is on the device", () =>
    withTab({}, async (tab) => {
      const { value } = await tab.attempt(() => window.kwaainet.models.list());
      assert.equal(value.object, "list");
      const { object, kwaainet: model } = value.data.find(({ id }) => id === MODEL);
      assert.equal(object, "model");
      assert.equal(model.storedBytes, model.bytes);
      assert.equal(model.licence, "Apache-2.0");
    }));

  test("a page builds its own instance, and hears events", () =>
    withVisitor({ warm: true }, async (visitor) => {
      const tab = await visitor.open();
      const { value, error } = await tab.attempt(async () => {
        const node = new window.KwaaiNet({ services: ["compute"], maxResources: { cpu: 90 } });
        const heard = [];
        for (const name of ["ready", "consent", "progress", "model", "warning", "error"]) {
          node.on(name, () => heard.push(name));
        }
        await node.initialize();
        const { choices } = await node.chat.completions.create({
          messages: [{ role: "user", content: "Hi" }],
          max_tokens: 2,
        });
        return { heard: [...new Set(heard)], text: choices[0].message.content };
      });
      assert.equal(error, undefined, JSON.stringify(error));
      assert.ok(value.heard.includes("ready"), value.heard.join());
      assert.notEqual(value.text, "");
    }));
});

describe("a self-hosted embed", () => {
  test("the official openai client lists models and streams a completion through the service worker", () =>
    withVisitor({}, async (visitor, sites) => {
      const { outputFiles } = await build({
        stdin: { contents: 'export { default } from "openai";', resolveDir: import.meta.dirname },
        bundle: true,
        format: "esm",
        platform: "browser",
        write: false,
      });
      sites.page("/openai.js", outputFiles[0].text, {
        host: "cdn.localhost",
        headers: { "content-type": "text/javascript" },
      });
      const url = sites.page("/self-hosted.html", pageWithTag("", { assistant: "" }), {
        host: "cdn.localhost",
      });
      const tab = await visitor.open();
      await tab.page.goto(url);
      await until("our frame", () => tab.page.frames().length > 1);
      const frame = tab.page.frames().find((candidate) => candidate !== tab.page.mainFrame());
      tab.frame = async () => frame;
      await tab.accept();
      await tab.ask("Hi", { max_tokens: 1 });
      await until("the service worker's control", () =>
        tab.page.evaluate(() => navigator.serviceWorker.controller !== null),
      );
      const { value, error } = await tab.attempt(async () => {
        const { default: OpenAI } = await import("/openai.js");
        const client = new OpenAI({
          baseURL: `${location.origin}/kwaainet/v1`,
          apiKey: "none",
          dangerouslyAllowBrowser: true,
        });
        const models = [];
        for await (const model of client.models.list()) models.push(model.id);
        const stream = await client.chat.completions.create({
          model: models[0],
          messages: [{ role: "user", content: "What is the capital of France? Answer in one sentence." }],
          stream: true,
          stream_options: { include_usage: true },
          temperature: 0,
          max_tokens: 16,
        });
        let text = "";
        let pieces = 0;
        let usage = null;
        for await (const chunk of stream) {
          text += chunk.choices[0]?.delta?.content ?? "";
          pieces += 1;
          usage = chunk.usage ?? usage;
        }
        const plain = await client.chat.completions.create({
          model: models[0],
          messages: [{ role: "user", content: "What is the capital of France? Answer in one sentence." }],
          temperature: 0,
          max_tokens: 16,
        });
        const refused = await client.chat.completions
          .create({ model: "gpt-9", messages: [{ role: "user", content: "Hi" }] })
          .catch(({ status, code, message }) => ({ status, code, message }));
        const health = await (await fetch("/kwaainet/v1/health")).json();
        return { models, text, pieces, usage, plain: plain.choices[0].message.content, refused, health };
      });
      assert.equal(error, undefined, JSON.stringify(error));
      assert.ok(value.models.includes(MODEL));
      assert.match(value.text, /Paris/);
      assert.equal(value.plain, value.text);
      assert.ok(value.pieces > 2);
      assert.equal(value.usage?.completion_tokens > 0, true);
      assert.equal(value.refused.status, 404);
      assert.ok(value.health);
      assert.equal(
        sites.log.filter(({ path }) => path.startsWith("/kwaainet/v1/")).length,
        0,
        "no request left the browser",
      );
    }));
});
