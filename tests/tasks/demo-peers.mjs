/**
 * `npm run demo:peers`: two sites whose visitors share a model with a native peer, which holds it, relays, and is named by
 * their tag. Everything stays on this machine.
 *
 *   npm run demo:peers -- --port 9000    another port than 8080
 *   npm run demo:peers -- --no-build     serves what was built before
 */
import { spawn } from "node:child_process";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { must, root } from "./run.mjs";
import { npmPackages, python, rust } from "./tools.mjs";

const at = process.argv.indexOf("--port");
const port = at > 0 ? Number(process.argv[at + 1]) : Number(process.env.PORT ?? 8080);
const dist = join(root, "cdn/dist");
const pages = join(root, "demo-site/peers");
const program = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/kwaainet");

async function build() {
  await npmPackages();
  await rust();
  await python();
  await must("node", ["tests/tasks/fetch-models.mjs"]);
  await must("node", ["tests/tasks/build.mjs"]);
  console.log("\nThe native peer is built (some minutes the first time) …");
  await must("cargo", ["build", "--locked", "-p", "kwaainet"]);
}

/** Our files by the machine's number: names under `localhost` are for browsers. */
async function serveFiles() {
  const server = createHttpServer((request, response) => {
    const file = join(dist, new URL(request.url, "http://x").pathname);
    if (!existsSync(file)) return response.writeHead(404).end();
    createReadStream(file).pipe(response);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return `http://127.0.0.1:${server.address().port}/models.json`;
}

/** A peer that has the model; resolves with the address that browsers reach it at. */
async function startPeer() {
  const { key } = JSON.parse(readFileSync(join(dist, "models.json"), "utf8"));
  const frame = readFileSync(join(dist, "frame.html"), "utf8");
  const [model] = JSON.parse(/id="kwaainet-deployment">([^<]*)</.exec(frame)[1]).models;
  const place = ["--data-dir", join(root, ".cache/demo-peer"), "--catalogue-key", key];
  place.push("--catalogue", await serveFiles());
  await new Promise((ready, failed) => {
    const pull = spawn(program, ["model", "pull", model.id, ...place], { stdio: "inherit" });
    pull.once("exit", (code) => (code === 0 ? ready() : failed(new Error("the peer has no model"))));
  });
  // Slow enough to see that two are faster than one.
  const flags = ["--relay", "--upload", "4", "--listen", "/ip4/127.0.0.1/tcp/0/ws", "--control", "0"];
  const peer = spawn(program, ["peer", "--json", ...flags, ...place], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.once("exit", () => peer.kill());
  const [line] = await new Promise((told) => {
    createInterface({ input: peer.stdout }).once("line", (text) => told([text]));
  });
  return { bootstrap: JSON.parse(line).addresses[0], model };
}

function page(bootstrap) {
  return readFileSync(join(pages, "index.html"), "utf8")
    .replaceAll("BOOTSTRAP", bootstrap)
    .replaceAll(".localhost:8080", `.localhost:${port}`);
}

try {
  if (!process.argv.includes("--no-build")) await build();
  const { bootstrap, model } = await startPeer();
  const { createServer } = await import(`${root}/demo-site/serve.mjs`);
  const onRequest = (request, response) => {
    const [name] = (request.headers.host ?? "").split(":");
    if (name !== "site.localhost" && name !== "there.localhost") return false;
    const path = new URL(request.url, "http://x").pathname;
    if (path === "/peers/" || path === "/") {
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache" });
      response.end(page(bootstrap));
      return true;
    }
    if (path.endsWith("/peers.js")) {
      response.writeHead(200, {
        "Content-Type": "text/javascript; charset=utf-8",
        "Cache-Control": "no-cache",
      });
      createReadStream(join(pages, "peers.js")).pipe(response);
      return true;
    }
    // Both sites have the same style.
    request.headers.host = `site.localhost:${port}`;
    request.url = request.url.replace(/^\/peers\//, "/");
    return false;
  };
  await createServer({ port, onRequest });
  console.log(`\nA native peer holds ${model.name} and relays. Open both, in one browser or in two:

  http://site.localhost:${port}/peers/
  http://there.localhost:${port}/peers/

On each: "Choose what is allowed", then "Choose", switch all three on and save; the model comes from the peer and the
server, then from both the peer and the other visitor.

Ctrl-C ends it.`);
} catch (error) {
  console.error(`\n${error.message}`);
  process.exit(1);
}
