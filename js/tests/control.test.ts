import { describe, expect, test } from "vitest";
import { readFromFrame, readHandshake, readToFrame } from "../src/host/control.js";

describe("the handshake", () => {
  test("has a version and a nonce", () => {
    expect(readHandshake({ kwaainet: 1, nonce: "n" })).toEqual({ kwaainet: 1, nonce: "n" });
  });
  test.each([null, "x", {}, { kwaainet: 2, nonce: "n" }, { kwaainet: 1 }, { kwaainet: 1, nonce: 5 }, []])(
    "%j is none",
    (data) => {
      expect(readHandshake(data)).toBeNull();
    },
  );
});

describe("what a site's page may say to the frame", () => {
  test("is four things", () => {
    expect(readToFrame({ type: "init", options: { model: "m" }, locales: ["de", 5, "<x>"] })).toEqual({
      type: "init",
      options: { model: "m" },
      locales: ["de"],
    });
    expect(readToFrame({ type: "connect", surplus: 1 })).toEqual({ type: "connect" });
    expect(readToFrame({ type: "ask" })).toEqual({ type: "ask" });
    expect(readToFrame({ type: "assistant", open: "yes" })).toEqual({ type: "assistant", open: false });
  });
  test.each([
    null,
    { type: "grant", record: {} },
    { type: "decide" },
    { type: "consent", purposes: ["runAi"] },
    { v: 1, id: 1, kind: "command", body: { type: "grant" } },
  ])("and not %j", (data) => {
    expect(readToFrame(data)).toBeNull();
  });
});

describe("what the frame says", () => {
  test("is checked before it is applied", () => {
    const layout = { type: "layout", mode: "panel", width: 360, height: 400 };
    expect(readFromFrame(layout)).toEqual(layout);
    for (const wrong of [
      { ...layout, width: -1 },
      { ...layout, width: Number.NaN },
      { ...layout, width: 1e9 },
      { ...layout, width: "100%" },
      { ...layout, mode: "fullscreen" },
      { type: "here" },
      { type: "fault", error: { code: 5 } },
      { type: "unknown" },
    ]) {
      expect(readFromFrame(wrong)).toBeNull();
    }
    expect(readFromFrame({ type: "ready" })).toEqual({ type: "ready", purposes: [] });
  });
});
