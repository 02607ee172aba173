/**
 * The sites of the demo on one port, told apart by the Host header as machines would be:
 *
 *   http://site.localhost:PORT   somebody's website: plain files, no special header
 *   http://cdn.localhost:PORT    ours: cdn/dist, with the headers of cdn/headers.mjs
 *   http://self.localhost:PORT   a website that serves our files itself, below /kwaainet/
 *
 * `*.localhost` is this machine and a secure context in every browser, and they are different sites to it.
 * Run as a program: `node demo-site/serve.mjs [--port N]`.
 */
import { createReadStream, existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { dirname, extname, join, resolve, sep } from "node:path";
import { pipeline } from "node:stream";
import { fileURLToPath } from "node:url";
import { headerRules, headersFor } from "../cdn/headers.mjs";

const here = dirname(fileURLToPath(import.meta.url));
export const DEFAULT_PORT = 8080;

const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".gguf": "application/octet-stream",
};

/**
 * A server for all of them. `listen: false` gives one that is not listening, to be put behind another.
 *
 * @param {{port?: number, host?: string, listen?: boolean, dist?: string, pages?: string, selfHosted?: string,
 *   onRequest?: (request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => boolean | void}} [options]
 *   `onRequest` sees every request first; when it returns true it has answered.
 */
export async function createServer({
  port = DEFAULT_PORT,
  host = "127.0.0.1",
  listen = true,
  dist = join(here, "../cdn/dist"),
  pages = join(here, "public"),
  selfHosted = join(here, "self-hosted"),
  onRequest,
} = {}) {
  const server = createHttpServer((request, response) => {
    if (onRequest?.(request, response)) return;
    answer(request, response, { dist, pages, selfHosted });
  });
  const origins = (actual) => ({
    site: `http://site.localhost:${actual}`,
    cdn: `http://cdn.localhost:${actual}`,
    selfHosted: `http://self.localhost:${actual}`,
  });
  if (!listen) return { server, ...origins(port), port, close: async () => {} };
  await new Promise((ready, failed) => {
    server.once("error", failed);
    server.listen(port, host, ready);
  });
  const actual = server.address().port;
  return {
    server,
    port: actual,
    ...origins(actual),
    close() {
      server.closeAllConnections();
      return new Promise((done) => server.close(() => done()));
    },
  };
}

function answer(request, response, { dist, pages, selfHosted }) {
  const [name, port] = (request.headers.host ?? "").split(":");
  if (!["GET", "HEAD", "OPTIONS"].includes(request.method)) {
    return refuse(response, 405, `${request.method} is not served here`);
  }
  let path;
  try {
    path = decodeURIComponent(new URL(request.url, "http://x").pathname);
  } catch {
    return refuse(response, 400, "this is not a path");
  }
  if (name === "cdn.localhost") return serveCdn(request, response, dist, path);
  if (name === "site.localhost") return serveSite(request, response, pages, path, port);
  if (name === "self.localhost") {
    if (path.startsWith("/kwaainet/"))
      return serveCdn(request, response, dist, path.slice("/kwaainet".length));
    if (path === "/openai.js") return serveOpenAi(response);
    return serveSite(request, response, selfHosted, path, port);
  }
  const home = `http://site.localhost${port ? `:${port}` : ""}/`;
  if (path === "/" && (name === "localhost" || name === "127.0.0.1")) {
    response.writeHead(302, { Location: home });
    return response.end();
  }
  return refuse(response, 404, `no site of this name is served here: open ${home}`);
}

/** Read at each request: a build may have replaced everything. */
function rulesOf(dist) {
  const frame = join(dist, "frame.html");
  const csp =
    existsSync(frame) &&
    /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(readFileSync(frame, "utf8"));
  return headerRules({ csp: csp ? csp[1] : "default-src 'none'" });
}

function serveCdn(request, response, dist, path) {
  const headers = headersFor(rulesOf(dist), path);
  if (request.method === "OPTIONS") {
    response.writeHead(204, {
      ...headers,
      "Access-Control-Allow-Methods": "GET, HEAD",
      "Access-Control-Allow-Headers": "Range",
      "Access-Control-Max-Age": "86400",
    });
    return response.end();
  }
  const file = find(dist, path);
  if (!file) {
    const built = existsSync(join(dist, "sovereign-ai.js"));
    return refuse(
      response,
      404,
      built ? `there is no ${path} here` : "nothing is built yet: run `npm run build`",
      headers,
    );
  }
  return send(request, response, file, headers);
}

function serveSite(request, response, pages, path, port) {
  const file = find(pages, path.endsWith("/") ? `${path}index.html` : path);
  if (!file) return refuse(response, 404, `there is no ${path} here`);
  if (!file.endsWith(".html")) return send(request, response, file, { "Cache-Control": "no-cache" });
  // The pages name the default port, as a website names its CDN.
  const html = readFileSync(file, "utf8").replaceAll(
    `.localhost:${DEFAULT_PORT}`,
    `.localhost:${port ?? 80}`,
  );
  const body = Buffer.from(html);
  response.writeHead(200, {
    "Content-Type": types[".html"],
    "Content-Length": body.length,
    "Cache-Control": "no-cache",
  });
  return response.end(request.method === "HEAD" ? undefined : body);
}

let openAi = null;

/** The official client as its users get it: unmodified, put into one file by a bundler. */
async function serveOpenAi(response) {
  openAi ??= import("esbuild").then(({ build }) =>
    build({
      stdin: { contents: 'export { default } from "openai";', resolveDir: here },
      bundle: true,
      write: false,
      format: "esm",
      minify: true,
      logLevel: "silent",
    }),
  );
  try {
    const { outputFiles } = await openAi;
    response.writeHead(200, { "Content-Type": types[".js"], "Cache-Control": "no-cache" });
    response.end(Buffer.from(outputFiles[0].contents));
  } catch (error) {
    openAi = null;
    refuse(response, 500, `the openai client cannot be bundled: ${error.message}`);
  }
}

/** The file of a path, or nothing; never one outside `root`, also not through a link. */
function find(root, path) {
  if (path.includes("\0")) return null;
  const file = resolve(root, `.${path}`);
  try {
    const real = realpathSync(file);
    if (!real.startsWith(realpathSync(root) + sep) || !statSync(real).isFile()) return null;
    return real;
  } catch {
    return null;
  }
}

function send(request, response, file, headers) {
  const range = request.headers.range;
  const compressed =
    !range && /\bbr\b/.test(request.headers["accept-encoding"] ?? "") && existsSync(`${file}.br`);
  const source = compressed ? `${file}.br` : file;
  const { size, mtimeMs } = statSync(source);
  const etag = `"${size.toString(36)}-${Math.round(mtimeMs).toString(36)}"`;
  const all = {
    ...headers,
    "Content-Type": types[extname(file)] ?? "application/octet-stream",
    ETag: etag,
    "Accept-Ranges": "bytes",
    ...(existsSync(`${file}.br`) && { Vary: "Accept-Encoding" }),
    ...(compressed && { "Content-Encoding": "br" }),
  };
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304, all);
    return response.end();
  }
  // RFC 9110, 13.1.5: a range of another version of the file is the whole of this one.
  const wanted = range && (request.headers["if-range"] ?? etag) === etag ? readRange(range, size) : null;
  if (wanted === "unsatisfiable") {
    response.writeHead(416, { ...all, "Content-Range": `bytes */${size}` });
    return response.end();
  }
  const [first, last] = wanted ?? [0, size - 1];
  response.writeHead(wanted ? 206 : 200, {
    ...all,
    "Content-Length": last - first + 1,
    ...(wanted && { "Content-Range": `bytes ${first}-${last}/${size}` }),
  });
  if (request.method === "HEAD" || size === 0) return response.end();
  // A visitor who goes away in the middle is no error of ours.
  return pipeline(createReadStream(source, { start: first, end: last }), response, () => {});
}

/** One range, as RFC 9110, 14.1.2 writes it; anything else is answered with the whole file. */
function readRange(header, size) {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? [];
  if (from === undefined || (from === "" && to === "")) return null;
  const first = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const last = from === "" || to === "" ? size - 1 : Math.min(Number(to), size - 1);
  return first > last || first >= size ? "unsatisfiable" : [first, last];
}

function refuse(response, status, message, headers = {}) {
  response.writeHead(status, {
    ...headers,
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-store",
  });
  response.end(`${message}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf("--port");
  const port = Number(at > 0 ? process.argv[at + 1] : (process.env.PORT ?? DEFAULT_PORT));
  try {
    const { site, cdn } = await createServer({ port });
    console.log(`site: ${site}/\ncdn:  ${cdn}/`);
  } catch (error) {
    if (error.code !== "EADDRINUSE") throw error;
    console.error(`port ${port} is in use: choose another one with --port`);
    process.exit(1);
  }
}
