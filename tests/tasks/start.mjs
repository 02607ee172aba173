/**
 * `npm start`: from a fresh clone to two sites that run. Says each step, and how long it took.
 *
 *   npm start -- --port 9000     another port than 8080
 *   npm start -- --no-build      serves what was built before
 */
import { duration, must, root } from "./run.mjs";
import { npmPackages, python, rust } from "./tools.mjs";

const began = Date.now();
const at = process.argv.indexOf("--port");
const port = at > 0 ? Number(process.argv[at + 1]) : Number(process.env.PORT ?? 8080);
const build = !process.argv.includes("--no-build");

const steps = [
  ["install npm packages", () => npmPackages()],
  ["look for Rust, its wasm target and its source", rust],
  // Programs of their own from here on: what they import was installed just now.
  [
    "fetch SmolLM2 135M (98 MB)",
    async () => {
      await python();
      await must("node", ["tests/tasks/fetch-models.mjs"]);
    },
  ],
  ["build the node and everything a website fetches", () => must("node", ["tests/tasks/build.mjs"])],
];

try {
  for (const [number, [what, work]] of (build ? steps : []).entries()) {
    console.log(`\n[${number + 1}/${steps.length}] ${what}`);
    const start = Date.now();
    await work();
    console.log(`[${number + 1}/${steps.length}] ${what}: ${duration(Date.now() - start)}`);
  }
  const { createServer } = await import(`${root}/demo-site/serve.mjs`);
  const { site, cdn, selfHosted } = await createServer({ port });
  console.log(`\nReady after ${duration(Date.now() - began)}. Open

  ${site}/
      a website with the tag and nothing else
  ${site}/demos.html
      every other use, each on a page of its own
  ${cdn}/sovereign-ai.js
      what the tag fetches, from our own site
  ${selfHosted}/
      a website that serves our files itself, and the official openai client

Ctrl-C ends it.`);
} catch (error) {
  const busy = error.code === "EADDRINUSE";
  console.error(
    `\n${busy ? `port ${port} is in use: choose another one with \`npm start -- --port N\`` : error.message}`,
  );
  process.exit(1);
}
