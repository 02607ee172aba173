import { describe, expect, test } from "vitest";
import { NodeClient } from "../src/protocol/client.js";
import { KwaaiNetError } from "../src/protocol/errors.js";
import { MOST_IN_FLIGHT } from "../src/protocol/port.js";
import type { ChatRequest } from "../src/protocol/types.js";
import { FakeNode, type FakeNodeOptions, textOf } from "./support/fake-node.js";
import { portPair, until } from "./support/ports.js";

function connect(client: NodeClient, options: FakeNodeOptions = {}) {
  const [here, there] = portPair();
  const node = new FakeNode(options);
  node.serve(there);
  client.attach(here);
  return { node, here, there };
}

const request = (more: Partial<ChatRequest> = {}): ChatRequest => ({
  messages: [{ role: "user", content: "Hi" }],
  seed: 7,
  max_tokens: 12,
  ...more,
});

async function chat(client: NodeClient, wanted = request(), signal?: AbortSignal) {
  let text = "";
  const onDelta = (delta: { text: string }) => {
    text += delta.text;
  };
  const done = await client.chat(wanted, { signal, onDelta });
  return { text, done };
}

describe("a client", () => {
  test("hands each reply to its own caller", async () => {
    const client = new NodeClient();
    connect(client);
    const [one, models, two] = await Promise.all([
      chat(client, request({ seed: 1 })),
      client.models(),
      chat(client, request({ seed: 2 })),
    ]);
    expect(one.text).toBe(textOf(1, 12));
    expect(two.text).toBe(textOf(2, 12));
    expect(models[0]?.id).toBe("fake");
  });

  test("fixes a seed when the caller gave none, and keeps the caller's", async () => {
    const client = new NodeClient();
    const { node } = connect(client);
    const { seed: _, ...unseeded } = request();
    await chat(client, unseeded);
    await chat(client, request({ seed: 0 }));
    const seeds = node.commands.map((command) =>
      command.type === "chat" ? command.request.seed : undefined,
    );
    expect(seeds[0]).toBeTypeOf("number");
    expect(seeds[1]).toBe(0);
  });

  test("sends the prelude before anything else, to every new node", async () => {
    const client = new NodeClient({ prelude: () => [{ type: "configure", config: {} }] });
    const first = connect(client);
    await client.models();
    const second = connect(client, { epoch: "epoch-2" });
    await client.models();
    expect(first.node.commands.map(({ type }) => type)).toEqual(["configure", "models"]);
    expect(second.node.commands.map(({ type }) => type)).toEqual(["configure", "models"]);
  });

  test("refuses more than the node takes, and loses none of the others", async () => {
    const client = new NodeClient();
    connect(client);
    const outcomes = await Promise.allSettled(Array.from({ length: 1000 }, () => client.models()));
    const busy = outcomes.filter(({ status }) => status === "rejected");
    expect(busy.length).toBe(1000 - MOST_IN_FLIGHT);
    for (const outcome of busy) {
      expect(outcome).toMatchObject({ reason: { code: "busy", retryable: true } });
    }
  });

  test("rejects with the code and advice of the node's error", async () => {
    const client = new NodeClient();
    const [here, there] = portPair();
    there.onmessage = (event) => {
      const { id, kind } = event.data as { id: number; kind: string };
      const body = { code: "modelNotFound", message: "no such model", retryable: false } as const;
      if (kind === "hello")
        there.postMessage({ v: 1, id: 0, kind: "welcome", body: { protocol: 1, version: "0", epoch: "e" } });
      if (kind === "command") there.postMessage({ v: 1, id, kind: "error", body });
    };
    client.attach(here);
    const error = await client.models().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(KwaaiNetError);
    expect(error).toMatchObject({ code: "modelNotFound", message: "no such model" });
  });

  test("tells which side is old when the versions differ", async () => {
    const client = new NodeClient();
    const models = client.models();
    connect(client, { protocol: 2 });
    await expect(models).rejects.toMatchObject({ code: "versionMismatch", message: /update @kwaainet\/sdk/ });
  });

  test("answers a ping", async () => {
    const client = new NodeClient();
    const [here, there] = portPair();
    const heard: string[] = [];
    there.onmessage = (event) => heard.push((event.data as { kind: string }).kind);
    client.attach(here);
    there.postMessage({ v: 1, id: 3, kind: "ping" });
    await until(() => heard.includes("pong"));
  });

  test("ignores what is no envelope", async () => {
    const client = new NodeClient();
    const { there } = connect(client);
    for (const nonsense of [null, 1, "x", {}, { v: 1, id: 1, kind: "made up" }, []]) {
      there.postMessage(nonsense as never);
    }
    expect(await client.models()).toHaveLength(1);
  });
});

describe("a cancelled call", () => {
  test("ends at once and stops the node", async () => {
    const client = new NodeClient();
    const { node } = connect(client);
    const control = new AbortController();
    let pieces = 0;
    const answer = client.chat(request({ max_tokens: 1000 }), {
      signal: control.signal,
      onDelta: () => {
        pieces += 1;
        if (pieces === 3) control.abort("enough");
      },
    });
    await expect(answer).rejects.toMatchObject({ code: "cancelled", cause: "enough" });
    await until(() => node.cancelled.length === 1);
    expect(client.inFlight).toBe(0);
    expect(pieces).toBe(3);
  });

  test("is not even sent with a signal that was aborted before", async () => {
    const client = new NodeClient();
    const { node } = connect(client);
    await expect(chat(client, request(), AbortSignal.abort())).rejects.toMatchObject({ code: "cancelled" });
    await client.models();
    expect(node.commands.map(({ type }) => type)).toEqual(["models"]);
  });
});

describe("when the node dies in the middle of an answer", () => {
  for (const dieAfter of [0, 1, 5, 11]) {
    test(`after ${dieAfter} tokens, the next one goes on and the text is the same`, async () => {
      const client = new NodeClient();
      const first = connect(client, { dieAfter });
      const answer = chat(client);
      await until(() => first.node.dead, "the death");
      const second = connect(client, { epoch: "epoch-2" });
      expect((await answer).text).toBe(textOf(7, 12));
      const [resumed] = second.node.commands;
      expect(resumed?.type === "chat" && resumed.resume).toHaveLength(dieAfter);
    });
  }

  test("twice, it still goes on", async () => {
    const client = new NodeClient();
    const first = connect(client, { dieAfter: 3 });
    const answer = chat(client);
    await until(() => first.node.dead);
    const second = connect(client, { epoch: "epoch-2", dieAfter: 3 });
    await until(() => second.node.dead);
    connect(client, { epoch: "epoch-3" });
    expect((await answer).text).toBe(textOf(7, 12));
  });

  test("a new greeting on the same port has everything sent again", async () => {
    const client = new NodeClient();
    const { node, there } = connect(client, { dieAfter: 4 });
    const answer = chat(client);
    await until(() => node.dead);
    // As a relay does when another tab's node takes over.
    new FakeNode({ epoch: "epoch-2" }).serve(there);
    const welcome = { protocol: 1, version: "0", epoch: "epoch-2" };
    there.postMessage({ v: 1, id: 0, kind: "welcome", body: welcome });
    expect((await answer).text).toBe(textOf(7, 12));
  });

  test("the same greeting twice does not", async () => {
    const client = new NodeClient();
    const { node, there } = connect(client);
    await client.models();
    const answer = chat(client);
    const welcome = { protocol: 1, version: "0", epoch: node.epoch };
    there.postMessage({ v: 1, id: 0, kind: "welcome", body: welcome });
    expect((await answer).text).toBe(textOf(7, 12));
    expect(node.commands.filter(({ type }) => type === "chat")).toHaveLength(1);
  });

  test("leaving a living node stops its work", async () => {
    const client = new NodeClient();
    const { node } = connect(client);
    const answer = chat(client, request({ max_tokens: 200 }));
    await until(() => node.commands.length === 1);
    connect(client, { epoch: "epoch-2" });
    expect((await answer).text).toBe(textOf(7, 200));
    expect(node.dead).toBe(false);
    expect(node.cancelled).toHaveLength(1);
  });

  test("a call that finds no port asks for one", async () => {
    let woken = 0;
    const client = new NodeClient({
      wake: () => {
        woken += 1;
        connect(client);
      },
    });
    expect(await client.models()).toHaveLength(1);
    expect(woken).toBe(1);
  });
});
