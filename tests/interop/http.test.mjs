/** What no client sends on purpose: strangers' pages, wrong methods, broken and huge bodies, slow talkers. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { modelFile, serve } from "./server.mjs";

const skip = modelFile()
  ? false
  : "SKIPPED, LOUDLY: the model is not in .cache/models (npm run build fetches it)";

describe("kwaainet serve over plain HTTP", { skip, timeout: 300_000 }, () => {
  let server;

  before(async () => {
    server = await serve(["--allow-origin", "https://site.example"]);
  });
  after(async () => {
    assert.equal(await server?.stop(), 0);
  });

  // fetch() would not let a test set Host and Origin.
  const send = (method, path, headers = {}, body = "") =>
    new Promise((done, failed) => {
      const sent = request({ host: "127.0.0.1", port: server.port, method, path, headers }, (response) => {
        let text = "";
        response.on("data", (data) => {
          text += data;
        });
        response.on("end", () => done({ status: response.statusCode, headers: response.headers, text }));
      });
      sent.on("error", failed);
      sent.end(body);
    });
  const json = { "content-type": "application/json" };
  const code = ({ text }) => JSON.parse(text).error.code;

  test("health needs nothing", async () => {
    const { status, text } = await send("GET", "/health");
    assert.equal(status, 200);
    assert.equal(JSON.parse(text).status, "ok");
  });

  test("a name that was made to point here is refused (DNS rebinding)", async () => {
    const answer = await send("GET", "/v1/models", { host: `evil.example:${server.port}` });
    assert.deepEqual([answer.status, code(answer)], [403, "host_not_allowed"]);
    assert.equal((await send("GET", "/v1/models", { host: `localhost:${server.port}` })).status, 200);
  });

  test("only listed pages may call", async () => {
    const evil = await send("GET", "/v1/models", { origin: "https://evil.example" });
    assert.deepEqual([evil.status, code(evil)], [403, "origin_not_allowed"]);
    assert.equal(evil.headers["access-control-allow-origin"], undefined);
    const listed = await send("GET", "/v1/models", { origin: "https://site.example" });
    assert.equal(listed.status, 200);
    assert.equal(listed.headers["access-control-allow-origin"], "https://site.example");
    const preflight = await send("OPTIONS", "/v1/chat/completions", {
      origin: "https://site.example",
      "access-control-request-method": "POST",
    });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers["access-control-allow-methods"], /POST/);
    assert.equal(
      (await send("OPTIONS", "/v1/chat/completions", { origin: "https://evil.example" })).status,
      403,
    );
  });

  test("wrong methods, types and bodies", async () => {
    const wrong = await send("GET", "/v1/chat/completions");
    assert.deepEqual([wrong.status, wrong.headers.allow], [405, "POST"]);
    // What a form on a stranger's page could send without asking first.
    const form = await send("POST", "/v1/chat/completions", { "content-type": "text/plain" }, "{}");
    assert.equal(form.status, 415);
    for (const body of [
      "",
      "{",
      "[]",
      '{"messages":3}',
      "\u0000",
      '{"messages":[{"role":"robot","content":"x"}]}',
    ]) {
      const answer = await send("POST", "/v1/chat/completions", json, body);
      assert.equal(answer.status, 400, body);
      assert.ok(JSON.parse(answer.text).error.message, body);
    }
  });

  test("a huge body is refused before it is read", async () => {
    const answer = await send("POST", "/v1/chat/completions", { ...json, "content-length": String(1 << 30) });
    assert.deepEqual([answer.status, code(answer)], [413, "request_too_large"]);
    const long = await send("POST", "/v1/completions", json, JSON.stringify({ prompt: "x".repeat(9 << 20) }));
    assert.equal(long.status, 400);
  });

  test("nonsense on the wire does no harm", async () => {
    await new Promise((done, failed) => {
      const socket = connect(server.port, "127.0.0.1", () =>
        socket.end("\u0016\u0003\u0001 this is not HTTP\r\n\r\n"),
      );
      socket.on("error", failed);
      socket.on("close", done);
      socket.resume();
    });
    assert.equal((await send("GET", "/health")).status, 200);
  });
});
