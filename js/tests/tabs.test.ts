/** Several contexts of one browser: who runs the node, and what happens when one of them dies. */
import { describe, expect, test } from "vitest";
import { aliveLock, Bus } from "../src/host/channel-port.js";
import { NodeHost, type RunningNode } from "../src/host/node-host.js";
import { NodeClient } from "../src/protocol/client.js";
import type { Origin } from "../src/protocol/types.js";
import { FakeNode, type FakeNodeOptions, textOf } from "./support/fake-node.js";
import { FakeAir, FakeLocks, portPair, until } from "./support/ports.js";

const request = { messages: [{ role: "user" as const, content: "Hi" }], seed: 7, max_tokens: 12 };

class World {
  readonly air = new FakeAir();
  readonly locks = new FakeLocks();
  readonly started: string[] = [];

  async tab(
    id: string,
    options: FakeNodeOptions = {},
    events: Partial<Record<"onLost" | "onWanted", () => void>> = {},
  ) {
    const locks = this.locks.of(id);
    await new Promise<void>((held) => {
      void locks.request(aliveLock(id), () => {
        held();
        return new Promise<void>(() => {});
      });
    });
    const node = new FakeNode({ epoch: `epoch of ${id}`, ...options });
    const origins: Origin[] = [];
    const start = async (): Promise<RunningNode> => {
      this.started.push(id);
      return {
        epoch: node.epoch,
        port: (origin) => {
          origins.push(origin);
          const [inner, outer] = portPair();
          node.serve(inner);
          return outer;
        },
      };
    };
    const channel = this.air.channel();
    const faults: string[] = [];
    const host = new NodeHost(id, channel, locks, start, {
      onFault: ({ message }) => faults.push(message),
      ...events,
    });
    const client = () => {
      const [page, worker] = portPair();
      host.attach(worker, "site");
      const made = new NodeClient();
      made.attach(page);
      return made;
    };
    const kill = () => {
      node.dead = true;
      channel.close();
      this.locks.kill(id);
    };
    return { host, node, origins, client, kill, faults };
  }
}

async function chat(client: NodeClient): Promise<string> {
  let text = "";
  const onDelta = (delta: { text: string }) => {
    text += delta.text;
  };
  await client.chat(request, { onDelta });
  return text;
}

describe("two tabs", () => {
  test("share one node, and both are answered", async () => {
    const world = new World();
    const one = await world.tab("one");
    const two = await world.tab("two");
    void one.host.elect();
    void two.host.elect();
    const answers = await Promise.all([chat(one.client()), chat(two.client())]);
    expect(answers).toEqual([textOf(7, 12), textOf(7, 12)]);
    expect(world.started).toEqual(["one"]);
    expect(one.origins).toEqual(["site", "site"]);
  });

  test("a follower keeps the origin of its ports, and nobody becomes an operator", async () => {
    const world = new World();
    const one = await world.tab("one");
    void one.host.elect();
    await until(() => one.host.hasNode);
    const air = world.air.channel();
    const bus = new Bus("two", air, {}, undefined);
    bus.open({ id: "one", epoch: "" }, "panel");
    bus.open({ id: "one", epoch: "" }, "operator");
    await until(() => one.origins.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(one.origins).toEqual(["panel"]);
  });

  test("closing the one with the node moves the work, and the text is the same", async () => {
    const world = new World();
    const one = await world.tab("one", { dieAfter: 5 });
    const two = await world.tab("two");
    void one.host.elect();
    void two.host.elect();
    const answer = chat(two.client());
    await until(() => one.node.dead, "the death");
    one.kill();
    expect(await answer).toBe(textOf(7, 12));
    expect(world.started).toEqual(["one", "two"]);
    const [resumed] = two.node.commands;
    expect(resumed?.type === "chat" && resumed.resume).toHaveLength(5);
  });

  test("closing the one without stops what it had asked for", async () => {
    const world = new World();
    const one = await world.tab("one");
    const two = await world.tab("two");
    void one.host.elect();
    void two.host.elect();
    const client = two.client();
    let pieces = 0;
    const onDelta = () => {
      pieces += 1;
    };
    client.chat({ ...request, max_tokens: 10_000 }, { onDelta }).catch(() => {});
    await until(() => pieces > 3);
    two.kill();
    await until(() => one.node.cancelled.length === 1, "the cancellation");
  });

  test("a call made while nobody has the node is answered by whoever gets it", async () => {
    const world = new World();
    let wanted = 0;
    const two = await world.tab("two", {}, { onWanted: () => wanted++ });
    const client = two.client();
    const answer = chat(client);
    const one = await world.tab("one");
    void one.host.elect();
    expect(await answer).toBe(textOf(7, 12));
    expect(wanted).toBeGreaterThan(0);
  });

  test("a follower that will never lead is told that the node died", async () => {
    const world = new World();
    let lost = 0;
    const one = await world.tab("one");
    const two = await world.tab("two", {}, { onLost: () => lost++ });
    void one.host.elect();
    await chat(two.client());
    one.kill();
    await until(() => lost === 1);
    expect(two.host.hasNode).toBe(false);
  });

  test("a node that does not start is a fault, and the next tab tries", async () => {
    const world = new World();
    const broken = new NodeHost(
      "broken",
      world.air.channel(),
      world.locks.of("broken"),
      () => Promise.reject(new Error("no wasm")),
      { onFault: () => {} },
    );
    await broken.elect();
    const two = await world.tab("two");
    void two.host.elect();
    expect(await chat(two.client())).toBe(textOf(7, 12));
  });

  test("without Web Locks every tab runs its own", async () => {
    const node = new FakeNode();
    const start = async () => ({
      epoch: node.epoch,
      port: () => {
        const [inner, outer] = portPair();
        node.serve(inner);
        return outer;
      },
    });
    const host = new NodeHost("one", new FakeAir().channel(), undefined, start, { onFault: () => {} });
    await host.elect();
    const [page, worker] = portPair();
    host.attach(worker, "site");
    const client = new NodeClient();
    client.attach(page);
    expect(await chat(client)).toBe(textOf(7, 12));
  });
});

test("nonsense on the channel changes nothing", async () => {
  const world = new World();
  const one = await world.tab("one");
  void one.host.elect();
  await until(() => one.host.hasNode);
  const forger = world.air.channel();
  for (const message of [
    null,
    "who",
    { type: "leader" },
    { type: "open", to: "one" },
    { type: "data", to: "one", pipe: "none", envelope: {} },
    { type: "close", to: "one", pipe: "none" },
  ]) {
    forger.postMessage(message);
  }
  expect(await chat(one.client())).toBe(textOf(7, 12));
});
