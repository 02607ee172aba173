/** The same promises, whichever host runs the node. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { closeSites, dist, modelFile, pageWithTag, startVisitor, theSites } from "./support/world.mjs";

after(closeSites);

const hosts = [
  { host: "worker", warm: true, attributes: {} },
  { host: "service-worker", warm: true, attributes: { host: "service-worker" } },
  // The site forbids frames, so nothing can be kept from an earlier visit to our origin.
  { host: "page", warm: false, attributes: {}, framesBlocked: true },
];

for (const { host, warm, attributes, framesBlocked } of hosts) {
  describe(`host ${host}`, () => {
    const withTab = async (run) => {
      const sites = await theSites();
      sites.reset();
      const visitor = await startVisitor({ warm });
      try {
        const headers = framesBlocked
          ? {
              "content-security-policy": `default-src 'self'; script-src 'self' ${sites.cdn} 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src 'self' ${sites.cdn}; style-src 'self' 'unsafe-inline'; frame-src 'none'`,
            }
          : {};
        const tab = await visitor.open({ attributes, headers });
        if (framesBlocked) {
          tab.frame = async () => tab.page.mainFrame();
        }
        if (!warm) await tab.accept();
        await run(tab, visitor, sites);
      } finally {
        await visitor.close();
      }
    };

    test("it says where it runs", () =>
      withTab(async (tab) => {
        await tab.ask("Hi", { max_tokens: 1 });
        const { value } = await tab.attempt(() => window.kwaainet.capabilities());
        assert.equal(value.host.host, host);
        assert.match(value.host.backend, /^wasm (simd128|relaxed-simd)$/);
      }));

    test("it answers in OpenAI's shape, streamed and plain, and both are the same text", () =>
      withTab(async (tab) => {
        const streamed = await tab.ask("What is the capital of France? Answer in one sentence.");
        assert.match(streamed.text, /Paris/);
        assert.ok(streamed.pieces > 1, "it came in pieces");
        const { value, error } = await tab.attempt(() =>
          window.kwaainet.chat.completions.create({
            messages: [{ role: "user", content: "What is the capital of France? Answer in one sentence." }],
            temperature: 0,
            max_tokens: 16,
          }),
        );
        assert.equal(error, undefined);
        assert.equal(value.object, "chat.completion");
        assert.equal(value.choices[0].message.content, streamed.text);
        assert.equal(value.usage.total_tokens, value.usage.prompt_tokens + value.usage.completion_tokens);
      }));

    test("it stops when it is told to", () =>
      withTab(async (tab) => {
        const { value, error } = await tab.attempt(async () => {
          const control = new AbortController();
          const stream = await window.kwaainet.chat.completions.create(
            { messages: [{ role: "user", content: "Count to a thousand." }], stream: true, max_tokens: 300 },
            { signal: control.signal },
          );
          let pieces = 0;
          const began = performance.now();
          try {
            for await (const _ of stream) {
              pieces += 1;
              if (pieces === 3) control.abort();
            }
          } catch {
            return { pieces, ms: performance.now() - began };
          }
          return { pieces };
        });
        assert.equal(error, undefined);
        assert.ok(value.pieces < 30, `${value.pieces} pieces came`);
        const after = await tab.ask("Hi", { max_tokens: 2 });
        assert.notEqual(after.text, "", "the next question is answered");
      }));

    test("two questions at once are both answered", () =>
      withTab(async (tab) => {
        const answers = await Promise.all([
          tab.ask("Say hello."),
          tab.ask("What is the capital of France? Answer in one sentence."),
        ]);
        assert.notEqual(answers[0].text, "");
        assert.match(answers[1].text, /Paris/);
      }));

    if (warm) {
      test("the model is not fetched again", () =>
        withTab(async (tab, _visitor, sites) => {
          await tab.ask("Hi", { max_tokens: 1 });
          assert.equal(sites.bytes(modelFile), 0);
        }));
    }
  });
}

test("without room for shared memory one thread answers, and the capabilities say so", async (t) => {
  const sites = await theSites();
  sites.reset();
  const [name] = readdirSync(join(dist, "assets")).filter((file) => /^worker-.*\.js$/.test(file));
  const script = readFileSync(join(dist, "assets", name));
  const none = `const { Memory } = WebAssembly;
WebAssembly.Memory = function (wanted) {
  if (wanted.shared) throw new RangeError("WebAssembly.Memory(): could not allocate memory");
  return new Memory(wanted);
};
`;
  sites.fault({
    matches: ({ path }) => path === `/assets/${name}`,
    apply: (_request, response) =>
      response
        .writeHead(200, {
          "content-type": "text/javascript",
          "cross-origin-resource-policy": "cross-origin",
          "cross-origin-embedder-policy": "require-corp",
        })
        .end(Buffer.concat([Buffer.from(none), script])),
  });
  // Not a returning one: our service worker would have kept the script.
  const visitor = await startVisitor();
  try {
    const tab = await visitor.open();
    await tab.accept();
    const { text } = await tab.ask("What is the capital of France? Answer in one sentence.");
    assert.match(text, /Paris/);
    const { value } = await tab.attempt(() => window.kwaainet.capabilities());
    assert.equal(value.host.threads, 1);
    const missing = value.host.missing.map(({ what }) => what);
    if (missing.includes("build with threads")) {
      t.skip("the build under test has no threads");
      return;
    }
    assert.ok(missing.includes("room for shared memory"), missing.join(", "));
  } finally {
    sites.reset();
    await visitor.close();
  }
});

describe("a site that blocks frames", () => {
  test("and blocks workers too gets a clear message and an untouched page", async () => {
    const sites = await theSites();
    sites.reset();
    const visitor = await startVisitor();
    try {
      const tab = await visitor.open({
        headers: { "content-security-policy": `default-src 'self'; script-src ${sites.cdn}` },
        html: pageWithTag(sites.cdn),
      });
      const { error } = await tab.attempt(() =>
        window.kwaainet.chat.completions.create({ messages: [{ role: "user", content: "Hi" }] }),
      );
      assert.equal(error.code, "hostBlocked");
      assert.match(error.message, /frame-src/, "it says which directive is missing");
      assert.equal(await tab.page.textContent("p"), "It was here before.");
    } finally {
      await visitor.close();
    }
  });

  test("is told by the panel's words that it could read along", async () => {
    const sites = await theSites();
    sites.reset();
    const visitor = await startVisitor();
    try {
      const tab = await visitor.open({
        attributes: { assistant: "" },
        headers: {
          "content-security-policy": `default-src 'self'; script-src ${sites.cdn} 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src ${sites.cdn}; style-src 'unsafe-inline'; frame-src 'none'`,
        },
      });
      tab.frame = async () => tab.page.mainFrame();
      await tab.panel();
      assert.match(await tab.text(), /could read what you write/);
    } finally {
      await visitor.close();
    }
  });
});
