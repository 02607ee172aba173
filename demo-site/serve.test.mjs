/** The dev server promises what a real host does: headers, ranges, compression, and no file from outside. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliCompressSync, brotliDecompressSync } from "node:zlib";
import { headerRules, headersFor } from "../cdn/headers.mjs";
import { createServer } from "./serve.mjs";

let folder;
let server;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "kwaainet-serve-"));
  for (const name of ["dist/models", "dist/assets", "pages"])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, "secret"), "secret");
  symlinkSync(join(folder, "secret"), join(folder, "dist/link"));
  writeFileSync(join(folder, "dist/models/m.gguf"), "0123456789");
  writeFileSync(join(folder, "dist/assets/a-1.js"), "let a;");
  writeFileSync(join(folder, "dist/assets/a-1.js.br"), brotliCompressSync(Buffer.from("let a;")));
  writeFileSync(join(folder, "pages/index.html"), '<script src="http://cdn.localhost:8080/x.js"></script>');
  server = await createServer({ port: 0, dist: join(folder, "dist"), pages: join(folder, "pages") });
});
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

function ask(name, path, headers = {}, method = "GET") {
  return new Promise((done, failed) => {
    const host = `${name}.localhost:${server.port}`;
    const options = { host: "127.0.0.1", port: server.port, path, method, headers: { host, ...headers } };
    get(options, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () =>
        done({
          ...response,
          status: response.statusCode,
          body: Buffer.concat(pieces),
          headers: response.headers,
        }),
      );
    }).on("error", failed);
  });
}

const model = "/models/m.gguf";

test("what is ours carries the isolation headers, errors too, and a website's pages none", async () => {
  for (const path of [model, "/nothing"]) {
    const { headers } = await ask("cdn", path);
    assert.equal(headers["document-isolation-policy"], "isolate-and-credentialless");
    assert.equal(headers["cross-origin-embedder-policy"], "credentialless");
    assert.equal(headers["cross-origin-resource-policy"], "cross-origin");
    assert.equal(headers["access-control-allow-origin"], "*");
  }
  const { headers } = await ask("site", "/");
  for (const name of Object.keys(headers)) assert.doesNotMatch(name, /isolation|cross-origin|access-control/);
});

test("no path gets the same header from two rules", () => {
  const rules = headerRules({ csp: "default-src 'none'" });
  for (const path of [
    "/frame.html",
    "/assets/a-1.js",
    "/v0.1.0/sovereign-ai.js",
    "/models/m.gguf",
    "/kwaainet-sw.js",
  ]) {
    const fitting = rules.filter((rule) => Object.keys(headersFor([rule], path)).length > 0);
    const names = fitting.flatMap(({ headers }) => Object.keys(headers));
    assert.equal(new Set(names).size, names.length, path);
    assert.ok(names.includes("Cache-Control"), path);
  }
});

test("ranges", async () => {
  const cases = [
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=8-", 206, "89", "bytes 8-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=5-99", 206, "56789", "bytes 5-9/10"],
    ["bytes=10-", 416, "", "bytes */10"],
    ["bytes=4-2", 416, "", "bytes */10"],
    ["lines=1-2", 200, "0123456789", undefined],
  ];
  for (const [range, status, body, answer] of cases) {
    const response = await ask("cdn", model, { range });
    assert.equal(response.status, status, range);
    assert.equal(String(response.body), body, range);
    assert.equal(response.headers["content-range"], answer, range);
  }
});

test("a range of a file that has changed is the whole file", async () => {
  const { headers } = await ask("cdn", model);
  const same = await ask("cdn", model, { range: "bytes=0-0", "if-range": headers.etag });
  assert.equal(same.status, 206);
  const other = await ask("cdn", model, { range: "bytes=0-0", "if-range": '"other"' });
  assert.equal(other.status, 200);
  assert.equal((await ask("cdn", model, { "if-none-match": headers.etag })).status, 304);
});

test("compressed for those who can read it, never in ranges", async () => {
  const path = "/assets/a-1.js";
  const small = await ask("cdn", path, { "accept-encoding": "gzip, br" });
  assert.equal(small.headers["content-encoding"], "br");
  assert.equal(String(brotliDecompressSync(small.body)), "let a;");
  assert.match(small.headers["cache-control"], /immutable/);
  const plain = await ask("cdn", path);
  assert.equal(String(plain.body), "let a;");
  assert.equal(plain.headers.vary, "Accept-Encoding");
  const part = await ask("cdn", path, { "accept-encoding": "br", range: "bytes=0-2" });
  assert.equal(String(part.body), "let");
});

test("no file from outside, by dots, by encoded dots, or through a link", async () => {
  for (const path of [
    "/../secret",
    "/%2e%2e/secret",
    "/..%2fsecret",
    "/models/../../secret",
    "/link",
    "/%00",
    "/models",
  ]) {
    const { status, body } = await ask("cdn", path);
    assert.equal(status, 404, path);
    assert.doesNotMatch(String(body), /^secret/);
  }
  assert.equal((await ask("cdn", "/%E0%A4%A")).status, 400);
});

test("pages name the port that is served", async () => {
  const { body } = await ask("site", "/");
  assert.match(String(body), new RegExp(`cdn\\.localhost:${server.port}/x\\.js`));
});

test("other names and methods are refused", async () => {
  assert.equal((await ask("evil", "/")).status, 404);
  assert.equal((await ask("cdn", model, {}, "DELETE")).status, 405);
  const head = await ask("cdn", model, {}, "HEAD");
  assert.equal(head.headers["content-length"], "10");
  assert.equal(head.body.length, 0);
});
