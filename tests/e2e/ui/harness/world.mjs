/**
 * The user interface alone, in a real browser: the site's page and our frame on two sites, a pretended node behind
 * it. The one thing changed in what is tested is the file `ui/shadow.ts`: its roots are open here, because axe-core
 * cannot look into closed ones. `KWAAINET_SHOTS=folder` keeps a picture of every state.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { chromiumPath } from "../../support/browser.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

const openShadow = {
  name: "open-shadow-roots",
  setup(plugin) {
    plugin.onLoad({ filter: /ui[/\\]shadow\.ts$/ }, () => ({
      contents: 'export const SHADOW_MODE = "open";',
      loader: "ts",
    }));
  },
};

export async function startUi() {
  const bundle = await build({
    entryPoints: [join(here, "frame.js")],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    plugins: [openShadow],
  });
  const files = {
    "/site.html": ["text/html", readFileSync(join(here, "site.html"))],
    "/frame.html": ["text/html", readFileSync(join(here, "frame.html"))],
    "/frame.css": ["text/css", readFileSync(join(here, "frame.css"))],
    "/frame.js": ["text/javascript", bundle.outputFiles[0].contents],
  };
  const server = createServer((request, response) => {
    const [type, body] = files[new URL(request.url, "http://x").pathname] ?? [];
    const headers = { "content-type": `${type ?? "text/plain"}; charset=utf-8` };
    if (request.url.startsWith("/frame.html")) {
      // As strict as the real frame's: neither inline scripts nor inline styles of ours are needed.
      headers["content-security-policy"] = "default-src 'none'; script-src 'self'; style-src 'self'";
    }
    if (request.url === "/favicon.ico") return response.writeHead(204).end();
    response.writeHead(body ? 200 : 404, headers).end(body ?? "");
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  const browser = await chromium.launch({ executablePath: chromiumPath(), args: ["--no-sandbox"] });
  return {
    browser,
    /** Opens the site's page with our frame on it. `wish` is what harness/frame.js reads. */
    async open(wish = {}, { width = 1280, height = 800, ...options } = {}) {
      const context = await browser.newContext({ viewport: { width, height }, ...options });
      const page = await context.newPage();
      const faults = [];
      page.on("pageerror", (error) => faults.push(error));
      page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
      const cdn = `http://cdn.localhost:${port}`;
      const hash = encodeURIComponent(JSON.stringify(wish));
      await page.goto(`http://site.localhost:${port}/site.html?cdn=${encodeURIComponent(cdn)}#${hash}`);
      const frame = page.frames().find((candidate) => candidate.url().startsWith(cdn));
      await frame.waitForFunction(() => window.harness?.layouts.length > 0);
      return new Tab(context, page, frame, faults);
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}

class Tab {
  constructor(context, page, frame, faults) {
    Object.assign(this, { context, page, frame, faults });
  }

  /** By role and name, through the open shadow roots. */
  role(role, name, options = {}) {
    return this.frame.getByRole(role, { name, ...options });
  }

  harness(read) {
    return this.frame.evaluate(read);
  }

  /** Waits until the panel has been visible and at rest for longer than it demands. */
  async rest(ms = 750) {
    await this.page.waitForTimeout(ms);
  }

  /** As a person does: the mouse goes there, waits, and presses. */
  async click(target, { hover = 350 } = {}) {
    const box = await target.boundingBox();
    await this.page.mouse.move(box.x + box.width / 2 - 4, box.y + box.height / 2 - 3);
    await this.page.waitForTimeout(20);
    await this.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await this.page.waitForTimeout(hover);
    await this.page.mouse.down();
    await this.page.mouse.up();
  }

  /**
   * Every violation of WCAG 2.2 AA that axe-core finds in our frame, once whatever moves in has arrived: text that
   * is half faded in has half its contrast.
   */
  async axe() {
    if (!(await this.frame.evaluate(() => window.axe !== undefined))) await this.frame.evaluate(axe);
    return this.frame.evaluate(async () => {
      const roots = [document];
      for (const root of roots)
        for (const { shadowRoot } of root.querySelectorAll("*")) if (shadowRoot) roots.push(shadowRoot);
      const ending = roots
        .flatMap((root) => root.getAnimations())
        .filter(({ effect }) => effect.getComputedTiming().endTime !== Number.POSITIVE_INFINITY);
      await Promise.allSettled(ending.map(({ finished }) => finished));
      const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
      const { violations } = await window.axe.run(document, { runOnly: tags });
      return violations.map(
        ({ id, help, nodes }) => `${id}: ${help} (${nodes.map((n) => n.html).join(" | ")})`,
      );
    });
  }

  async shot(name) {
    const folder = process.env.KWAAINET_SHOTS;
    if (!folder) return;
    mkdirSync(folder, { recursive: true });
    await this.page.screenshot({ path: join(folder, `${name}.png`) });
  }

  async close() {
    await this.context.close();
  }
}
