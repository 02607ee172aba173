/**
 * What our frame draws lies in closed shadow roots on another origin, so tests meet it as a person with a screen
 * reader does: by role and name in the accessibility tree, and by real clicks at its place on the screen.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** Our frame on a site's page, once it is there. */
export async function ourFrame(page, cdn, { timeout = 10_000 } = {}) {
  const until = Date.now() + timeout;
  for (;;) {
    const frame = page.frames().find((candidate) => candidate.url().startsWith(`${cdn}/`));
    if (frame) return frame;
    if (Date.now() > until) throw new Error(`no frame of ${cdn} on ${page.url()}`);
    await sleep(50);
  }
}

/** The accessibility tree of our frame as a flat list: `{role, name, value, node, ...properties}`. */
export async function tree(page, frame) {
  const { session, shared } = await sessionOf(page, frame);
  const where = shared && frame !== page.mainFrame() ? { frameId: await frameId(session, frame.url()) } : {};
  const { nodes } = await session.send("Accessibility.getFullAXTree", where);
  return nodes
    .filter((node) => !node.ignored)
    .map((node) => ({
      role: node.role?.value,
      name: node.name?.value ?? "",
      value: node.value?.value,
      description: node.description?.value,
      node: node.backendDOMNodeId,
      ...Object.fromEntries((node.properties ?? []).map(({ name, value }) => [name, value.value])),
    }));
}

/** Every word that can be read in the frame. */
export async function textOf(page, frame) {
  const nodes = await tree(page, frame);
  return nodes
    .filter(({ role }) => role === "StaticText")
    .map(({ name }) => name)
    .join(" ");
}

/** Waits for something with this role and a name that matches. */
export async function find(page, frame, role, name, { timeout = 10_000 } = {}) {
  const until = Date.now() + timeout;
  for (;;) {
    const nodes = await tree(page, frame).catch(() => []);
    const found = nodes.find(
      (node) => node.role === role && (typeof name === "string" ? node.name === name : name.test(node.name)),
    );
    if (found) return found;
    if (Date.now() > until) {
      const there = nodes
        .filter((node) => node.name)
        .map((node) => `${node.role} ${JSON.stringify(node.name)}`);
      throw new Error(`no ${role} ${name} in our frame; there are:\n  ${there.join("\n  ")}`);
    }
    await sleep(100);
  }
}

/** The middle of a node, in the coordinates of the page. */
export async function placeOf(page, frame, node) {
  const { session, shared } = await sessionOf(page, frame);
  await session.send("DOM.scrollIntoViewIfNeeded", { backendNodeId: node.node }).catch(() => {});
  const { model } = await session.send("DOM.getBoxModel", { backendNodeId: node.node });
  const [left, top, , , right, bottom] = model.border;
  // Frames that share the page's process are measured from the page's corner already.
  const outer = shared ? { x: 0, y: 0 } : await (await frame.frameElement()).boundingBox();
  return { x: outer.x + (left + right) / 2, y: outer.y + (top + bottom) / 2 };
}

/** Longer than the panel wants a pointer to have been over it before a click counts (HOVER_MS of its gate). */
const HOVER_MS = 450;

/**
 * A real click: it goes through the browser's input, so `isTrusted` is true, and it rests before it presses. While the
 * thing still moves (our frame grows when it opens), the pointer follows it, as a person's would.
 */
export async function click(page, frame, role, name, options) {
  for (let tries = 0; ; tries += 1) {
    const { x, y } = await placeOf(page, frame, await find(page, frame, role, name, options));
    await page.mouse.move(x - 4, y - 4);
    await page.mouse.move(x, y);
    await sleep(HOVER_MS);
    const now = await placeOf(page, frame, await find(page, frame, role, name, options));
    const rests = Math.hypot(now.x - x, now.y - y) < 1;
    if (rests || tries === 10) {
      await page.mouse.click(x, y);
      return;
    }
  }
}

const sessions = new WeakMap();

/** A frame of another site has a CDP session of its own; a frame of the page's own site shares the page's. */
async function sessionOf(page, frame) {
  const known = sessions.get(frame);
  if (known) return known;
  const context = page.context();
  const entry = await context.newCDPSession(frame).then(
    (session) => ({ session, shared: frame === page.mainFrame() }),
    async () => ({ session: await context.newCDPSession(page), shared: true }),
  );
  sessions.set(frame, entry);
  return entry;
}

async function frameId(session, url) {
  const { frameTree } = await session.send("Page.getFrameTree");
  const walk = ({ frame, childFrames = [] }) =>
    frame.url + (frame.urlFragment ?? "") === url ? frame.id : childFrames.map(walk).find(Boolean);
  return walk(frameTree);
}
