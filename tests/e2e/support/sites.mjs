/**
 * Two sites and a hostile third on one port, told apart by the Host header. What is ours is served by the demo's own
 * server, so that its headers are tested; on top come pages for single tests, a log, and faults on demand.
 */
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * @param {{port?: number, inner: import("node:http").Server}} options `inner` gets what no test page answers.
 */
export async function startSites({ port = 0, inner }) {
  const pages = new Map();
  const faults = [];
  const log = [];
  const server = createServer((request, response) => {
    const host = (request.headers.host ?? "").replace(/:\d+$/, "");
    const path = new URL(request.url, "http://x").pathname;
    const entry = {
      method: request.method,
      host,
      path,
      headers: request.headers,
      at: Date.now(),
      status: 0,
      bytes: 0,
    };
    log.push(entry);
    observe(response, entry);
    for (const fault of faults) {
      if (fault.matches(entry)) fault.apply(request, response, entry);
    }
    if (response.destroyed || response.writableEnded) return;
    const page = pages.get(`${host}${path}`);
    if (page) {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", ...page.headers });
      response.end(page.html);
      return;
    }
    inner.emit("request", request, response);
  });
  server.keepAliveTimeout = 1000;
  await new Promise((ready, failed) => {
    server.once("error", failed);
    server.listen(port, "127.0.0.1", ready);
  });
  const actual = server.address().port;
  const origin = (name) => `http://${name}.localhost:${actual}`;
  return {
    port: actual,
    site: origin("site"),
    cdn: origin("cdn"),
    evil: origin("evil"),
    log,
    /** Serves `html` at `path` of `site.localhost`, or of the host that is named. */
    page(path, html, { headers = {}, host = "site.localhost" } = {}) {
      pages.set(`${host}${path}`, { html, headers });
      return `http://${host}:${actual}${path}`;
    },
    fault(fault) {
      faults.push(fault);
      return () => faults.splice(faults.indexOf(fault), 1);
    },
    reset() {
      faults.length = 0;
      log.length = 0;
      pages.clear();
    },
    /** Bytes of bodies sent for paths that match. */
    bytes: (pattern) =>
      log.filter(({ path }) => pattern.test(path)).reduce((sum, { bytes }) => sum + bytes, 0),
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function observe(response, entry) {
  const { write, end, writeHead } = response;
  const count = (chunk, encoding) => {
    if (chunk && typeof chunk !== "function") entry.bytes += Buffer.byteLength(chunk, encoding);
  };
  response.writeHead = function head(status, ...rest) {
    entry.status = status;
    return writeHead.call(this, status, ...rest);
  };
  response.write = function body(chunk, ...rest) {
    count(chunk, rest[0]);
    return write.call(this, chunk, ...rest);
  };
  response.end = function last(chunk, ...rest) {
    count(chunk, rest[0]);
    entry.status ||= this.statusCode;
    return end.call(this, chunk, ...rest);
  };
}

/** The first byte of the file that a response carries. */
function firstByte(request) {
  return Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
}

/** Replaces `write` and `end` by `change(chunk, offset in the file)`, which returns the chunk to send or null to cut. */
function rewrite(request, response, change) {
  const write = response.write.bind(response);
  const end = response.end.bind(response);
  let at = firstByte(request);
  const passed = (chunk) => {
    const buffer = Buffer.from(chunk);
    const changed = change(buffer, at);
    at += buffer.length;
    return changed;
  };
  response.write = (chunk, ...rest) => {
    const changed = passed(chunk);
    if (changed !== null && changed.length === Buffer.byteLength(chunk)) return write(changed, ...rest);
    if (changed?.length) write(changed);
    response.flushHeaders();
    // After what was written has left: a cut connection is not a lost one.
    setTimeout(() => response.socket?.destroy(), 50);
    response.write = () => false;
    response.end = () => response;
    return false;
  };
  response.end = (chunk, ...rest) => {
    if (chunk && typeof chunk !== "function") response.write(chunk);
    return end(...(typeof chunk === "function" ? [chunk] : rest));
  };
}

/** Cuts the connection when byte `at` of the file would be sent; `times` times. */
export function cutAt(pattern, at, { times = 1 } = {}) {
  let left = times;
  return {
    matches: ({ path, method }) => method === "GET" && pattern.test(path) && left > 0,
    apply(request, response) {
      rewrite(request, response, (chunk, offset) => {
        if (left === 0 || offset > at || offset + chunk.length <= at) return chunk;
        left -= 1;
        return chunk.subarray(0, at - offset);
      });
    },
    get done() {
      return left === 0;
    },
  };
}

/** Changes one byte of the file; `times` times, or always. */
export function corrupt(pattern, at, { times = Number.POSITIVE_INFINITY } = {}) {
  let left = times;
  return {
    matches: ({ path, method }) => method === "GET" && pattern.test(path) && left > 0,
    apply(request, response) {
      rewrite(request, response, (chunk, offset) => {
        if (left <= 0 || offset > at || offset + chunk.length <= at) return chunk;
        left -= 1;
        const changed = Buffer.from(chunk);
        changed[at - offset] ^= 0xff;
        return changed;
      });
    },
  };
}

/** Sends at most `bytesPerSecond`. */
export function slow(pattern, bytesPerSecond) {
  return {
    matches: ({ path }) => pattern.test(path),
    apply(_request, response) {
      const write = response.write.bind(response);
      const end = response.end.bind(response);
      // One after the other: timers alone do not keep the order.
      let queue = Promise.resolve();
      const later = (work, bytes) => {
        queue = queue.then(() => sleep((bytes / bytesPerSecond) * 1000)).then(work);
      };
      response.write = (chunk) => {
        later(() => {
          if (write(chunk)) response.emit("drain");
        }, Buffer.byteLength(chunk));
        return false;
      };
      response.end = (chunk) => {
        later(() => (chunk ? end(chunk) : end()), chunk ? Buffer.byteLength(chunk) : 0);
        return response;
      };
    },
  };
}

/** Nobody answers. */
export function unreachable(pattern) {
  return {
    matches: ({ path }) => pattern.test(path),
    apply: (_request, response) => response.socket?.destroy(),
  };
}

/** Answers with a status and nothing else. */
export function refuse(pattern, status) {
  return {
    matches: ({ path }) => pattern.test(path),
    apply(_request, response) {
      response.writeHead(status);
      response.end();
    },
  };
}

/** Answers with another body. */
export function replace(pattern, body, type = "application/json") {
  return {
    matches: ({ path }) => pattern.test(path),
    apply(_request, response) {
      response.writeHead(200, { "content-type": type, "cross-origin-resource-policy": "cross-origin" });
      response.end(body);
    },
  };
}
