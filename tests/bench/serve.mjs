/** A site for the rivals' pages. Threads need COOP and COEP, so it has them. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { wasmFolder } from "./wasm.mjs";

const here = import.meta.dirname;

const types = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".html": "text/html",
};

/** The models, what the bench has built, the pages, and what npm has installed. */
function fileOf(path) {
  if (path.startsWith("/models/")) return join(here, "../../.cache", path);
  if (path.startsWith("/built/")) return join(wasmFolder, path.slice("/built/".length));
  if (/^\/[\w-]+\.(html|js)$/.test(path)) return join(here, "pages", path);
  return join(here, "node_modules", path);
}

export async function serveRivals() {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    let bytes;
    try {
      bytes = readFileSync(fileOf(path));
    } catch {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "content-type": types[extname(path)] ?? "application/octet-stream",
      "content-length": bytes.length,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-resource-policy": "same-origin",
      etag: '"1"',
    });
    response.end(request.method === "HEAD" ? undefined : bytes);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    origin: `http://rivals.localhost:${server.address().port}`,
    close: () =>
      new Promise((done) => {
        server.closeAllConnections();
        server.close(done);
      }),
  };
}
