/**
 * Entry of `kwaainet-sw.js`: one classic script without `import()`, because a service worker refuses that. It may be
 * killed at any second, so it keeps nothing in memory that somebody else could not make again.
 */
import { BUS_NAME, holdAlive } from "../host/channel-port.js";
import type { Deployment } from "../host/deployment.js";
import { NodeHost } from "../host/node-host.js";
import { type FromServiceWorker, SHELL, type ToServiceWorker } from "../host/service-worker-messages.js";
import { NodeClient } from "../protocol/client.js";
import { KwaaiNetError } from "../protocol/errors.js";
import { asPort } from "../protocol/port.js";
import { startNode } from "../worker/node.js";
import { answer } from "./front-door.js";
import type { FetchEventLike, ServiceWorkerScope } from "./scope.js";
import { fromShell, isShell, keepShell, shell } from "./shell.js";

const scope = globalThis as unknown as ServiceWorkerScope;
const folder = scope.registration.scope;
const routes = new URL("kwaainet/v1/", folder);
const keepsShell = scope.location.search === `?${SHELL}`;

/** How long a request waits for a tab to say that it has the node. */
const NODE_MS = 10_000;

let deployment: Deployment | null = null;
let hosting = false;
let opening: Promise<NodeHost> | null = null;
const waiting = new Set<() => void>();
const streams = new Map<string, number>();

const client = new NodeClient({
  wake: () => {
    void open().then((host) => {
      const { port1, port2 } = new MessageChannel();
      host.attach(asPort(port2), "site");
      client.attach(asPort(port1));
    });
  },
});

scope.addEventListener("install", () => void scope.skipWaiting());
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));

scope.addEventListener("message", (event) => {
  // Only pages of our own origin can post here.
  const message = event.data as ToServiceWorker;
  if (message.type === "shell" && keepsShell) event.waitUntil(keepShell(message.urls));
  if (message.type === "host") host(message.deployment);
});

scope.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (url.origin === routes.origin && url.pathname.startsWith(routes.pathname)) {
    const route = url.pathname.slice(routes.pathname.length);
    const streaming = (change: 1 | -1) => void countStreams(event, change);
    event.respondWith(answer(route, event.request, { client, node: awaitNode, streaming }));
  } else if (keepsShell && event.request.method === "GET" && isShell(url, folder)) {
    event.respondWith(shell(event.request));
  }
});

function open(): Promise<NodeHost> {
  opening ??= (async () => {
    const id = crypto.randomUUID();
    // Others learn of this worker's death by this lock.
    await holdAlive(id, navigator.locks);
    const start = () => {
      if (deployment === null)
        throw new KwaaiNetError("internal", "The service worker was not told what to host.");
      return startNode({
        host: "service-worker",
        deployment,
        missing: [],
        webLocks: true,
        fetchWasm: fromShell,
      });
    };
    return new NodeHost(id, new BroadcastChannel(BUS_NAME), navigator.locks, start, {
      onFault: ({ code, message, retryable }) =>
        client.failAll(new KwaaiNetError(code, message, { retryable })),
      onNode: () => {
        for (const resolve of waiting) resolve();
        waiting.clear();
      },
      onLost: () => void failWithoutNode(),
    });
  })();
  return opening;
}

/** A tab chose this worker as the node's host. It says so again whenever it wants it awake. */
function host(wanted: Deployment): void {
  deployment = wanted;
  if (hosting) return;
  hosting = true;
  void open()
    .then((running) => running.elect())
    .finally(() => {
      // It could not start: the next message tries again.
      hosting = false;
    });
}

async function awaitNode(): Promise<void> {
  const running = await open();
  if (running.hasNode) return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(done);
      reject(noNode());
    }, NODE_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    waiting.add(done);
  });
}

/** The tab with the node was closed. If no other one takes over, nobody will ever answer. */
async function failWithoutNode(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, NODE_MS));
  if (!(await open()).hasNode) client.failAll(noNode());
}

function noNode(): KwaaiNetError {
  const message =
    "No tab of this site runs KwaaiNet: open a page with it, and agree there that a model may run.";
  return new KwaaiNetError("interrupted", message, { retryable: true });
}

/** Tells the reading page to ping for as long as it reads. */
async function countStreams(event: FetchEventLike, change: 1 | -1): Promise<void> {
  const count = (streams.get(event.clientId) ?? 0) + change;
  streams.set(event.clientId, count);
  const page = await scope.clients.get(event.clientId);
  page?.postMessage({ type: "kwaainet-streams", open: count } satisfies FromServiceWorker);
}
