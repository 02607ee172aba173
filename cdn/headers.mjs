/**
 * The headers that make our files work on any site, in one place: the dev server sends them, and the build writes
 * them down for the hosts that people use. Measured in Chromium and Firefox with all kinds of host pages; each of
 * the four isolation headers is needed by some of them.
 */

/** On every response of ours. */
const everywhere = {
  // Threads without the site's help (Chromium); ignored elsewhere.
  "Document-Isolation-Policy": "isolate-and-credentialless",
  // Sites that are isolated themselves refuse frames and scripts without these two.
  "Cross-Origin-Embedder-Policy": "credentialless",
  "Cross-Origin-Resource-Policy": "cross-origin",
  // Subresource integrity needs CORS; so does the node in a page whose site blocks frames.
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
};

/** What our own pages and workers may do. `style` is the hash of the frame's only style element. */
export function contentSecurityPolicy(style) {
  return [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self'",
    // Models come from the sources that the signed catalogue names, and every chunk is verified.
    // Peers are called by those who help others; the network's module calls none on this machine unless the page is from here.
    "connect-src 'self' https: wss: ws://127.0.0.1:* ws://localhost:*",
    `style-src '${style}'`,
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

const immutable = "public, max-age=31536000, immutable";
const fresh = "no-cache";

/**
 * `*` stands for anything at the end. What a path gets is the sum of all rules that fit, and no two of them name the
 * same header: hosts disagree about which one would win.
 */
export function headerRules({ csp }) {
  const code = { "Content-Security-Policy": csp };
  return [
    { path: "/*", headers: everywhere },
    { path: "/sovereign-ai.js", headers: { "Cache-Control": fresh } },
    { path: "/frame.html", headers: { ...code, "Cache-Control": fresh } },
    { path: "/kwaainet-sw.js", headers: { ...code, "Cache-Control": fresh } },
    { path: "/models.json", headers: { "Cache-Control": fresh } },
    { path: "/integrity.json", headers: { "Cache-Control": fresh } },
    // A worker has the policy of its own script, not the frame's.
    { path: "/assets/*", headers: { ...code, "Cache-Control": immutable } },
    { path: "/v*", headers: { "Cache-Control": immutable } },
    // Every chunk is verified against the signed catalogue, whatever a cache gives.
    { path: "/models/*", headers: { "Cache-Control": "public, max-age=86400" } },
  ];
}

export function headersFor(rules, path) {
  const fits = (pattern) =>
    pattern.endsWith("*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern;
  return Object.assign({}, ...rules.filter((rule) => fits(rule.path)).map((rule) => rule.headers));
}

/** `_headers`, as Netlify and Cloudflare Pages read it. */
export function asHeadersFile(rules) {
  const lines = (headers) => Object.entries(headers).map(([name, value]) => `  ${name}: ${value}`);
  return `${rules.map(({ path, headers }) => [path, ...lines(headers)].join("\n")).join("\n\n")}\n`;
}

/** For a `server { … }` of nginx, with the root set to this folder. */
export function asNginx(rules) {
  const location = ({ path }) =>
    path.endsWith("*") ? `location ${path.slice(0, -1)}` : `location = ${path}`;
  const blocks = rules.map((rule) => {
    // add_header of a location replaces all of the outer ones, so each block has the full set.
    const all = headersFor(rules.slice(0, rules.indexOf(rule) + 1), rule.path);
    const lines = Object.entries(all).map(([name, value]) => `    add_header ${name} "${value}" always;`);
    return `${location(rule)} {\n${lines.join("\n")}\n}`;
  });
  return `types { application/wasm wasm; text/javascript js; text/html html; application/json json; application/octet-stream gguf; }\n# brotli_static on;   # where nginx has ngx_brotli: the .br files lie beside the others\n\n${blocks.join("\n\n")}\n`;
}

export function asCaddy(rules) {
  const blocks = rules.map(({ path, headers }) => {
    const lines = Object.entries(headers).map(([name, value]) => `    ${name} "${value}"`);
    return `header ${path} {\n${lines.join("\n")}\n}`;
  });
  return `${blocks.join("\n\n")}\nfile_server {\n    precompressed br\n}\n`;
}
