import { describe, expect, test } from "vitest";
import { configOf, readSiteOptions } from "../src/host/site-options.js";
import { checkOptions, editDistance, nearest } from "../src/public/options.js";
import { baseOf, readAttributes } from "../src/script-tag/attributes.js";

const base = "https://cdn.example/";

describe("the tag of the specification", () => {
  test("is read as it is written", () => {
    const { options, problems } = readAttributes(
      {
        services: "compute,storage,identity,carbon",
        privacyCompliant: "gdpr,ccpa,hipaa",
        rewardSplit: "70/30",
        maxResources: "cpu:20,memory:1024,storage:5000",
        greenBonus: "true",
        siteId: "shop-1",
        model: "smollm2-135m-instruct-q4_1",
        contextLength: "4096",
        kvCache: "q8",
        assistant: "",
      },
      base,
    );
    expect(problems).toEqual([]);
    expect(options).toEqual({
      base,
      services: ["compute", "storage", "identity", "carbon"],
      privacyCompliance: ["gdpr", "ccpa", "hipaa"],
      rewardSplit: [70, 30],
      maxResources: { cpu: 20, memory: 1024, storage: 5000 },
      greenBonus: true,
      siteId: "shop-1",
      model: "smollm2-135m-instruct-q4_1",
      contextLength: 4096,
      kvCache: "q8",
      assistant: true,
    });
    expect(configOf(options)).toMatchObject({ contextLength: 4096, kvCache: "q8" });
  });

  test("leaves unset what is not written, because defaults are the node's", () => {
    expect(readAttributes({}, base).options).toEqual({ base });
    expect(configOf(readAttributes({}, base).options)).toEqual({});
  });

  test.each([
    [{ sevices: "compute" }, /data-sevices; did you mean data-services\?/],
    [{ services: "compute,storag" }, /data-services: unknown value storag; did you mean storage\?/],
    [{ maxResources: "cpu:200" }, /cpu:200 is out of range, write 1 to 100/],
    [{ maxResources: "memori:5" }, /memori; did you mean memory\?/],
    [{ maxResources: "memory:-1" }, /memory:-1/],
    [{ maxResources: "cpu:" }, /cpu:/],
    [{ contextLength: "63" }, /context-length: write a whole number of tokens, 64 to 131072/],
    [{ contextLength: "" }, /context-length/],
    [{ contextLength: "1e6" }, /context-length/],
    [{ kvCache: "q4" }, /kv-cache: unknown value q4/],
    [{ rewardSplit: "70/40" }, /data-reward-split.*add up to 100/],
    [{ rewardSplit: "seventy" }, /data-reward-split/],
    [{ host: "servce-worker" }, /did you mean service-worker\?/],
    [{ assistant: "perhaps" }, /data-assistant: write true or false/],
    [{ model: "Not A Model" }, /data-model/],
    [{ entirelyDifferent: "x" }, /unknown option data-entirely-different \(known: .*data-services/],
  ])("%j is named", (dataset: Record<string, string>, expected) => {
    const { problems } = readAttributes(dataset, base);
    expect(problems.join("\n")).toMatch(expected);
  });

  test("what is wrong does not take the rest with it", () => {
    const { options } = readAttributes({ services: "compute,nonsense", maxResources: "cpu:20,disk:1" }, base);
    expect(options).toEqual({ base, services: ["compute"], maxResources: { cpu: 20 } });
  });
});

describe("the folder of our files", () => {
  test.each([
    ["https://cdn.example/sovereign-ai.js", "https://cdn.example/"],
    ["https://cdn.example/sovereign-ai.js?x=1#y", "https://cdn.example/"],
    ["https://cdn.example/kwaainet/sovereign-ai.js", "https://cdn.example/kwaainet/"],
    ["https://cdn.example/v1.2.3/sovereign-ai.js", "https://cdn.example/"],
    ["https://cdn.example/a/v1.2.3-beta.1/sovereign-ai.js", "https://cdn.example/a/"],
    ["https://cdn.example/v2/sovereign-ai.js", "https://cdn.example/v2/"],
  ])("of %s is %s", (src, folder) => {
    expect(baseOf(src)).toBe(folder);
  });
});

describe("the constructor's options", () => {
  test("are the same values, typed", () => {
    const typed = {
      services: ["compute"],
      rewardSplit: [70, 30],
      maxResources: { cpu: 20 },
      base: new URL(base),
    };
    const { site, problems, base: found } = checkOptions(typed);
    expect(problems).toEqual([]);
    expect(found).toBe(base);
    expect(site).toEqual({ services: ["compute"], rewardSplit: [70, 30], maxResources: { cpu: 20 } });
  });

  test("are named as they are written there", () => {
    expect(checkOptions({ maxResource: {} }).problems[0]).toBe(
      "unknown option maxResource; did you mean maxResources?",
    );
  });
});

describe("what crosses to our origin", () => {
  test("is taken only where it is well formed", () => {
    const hostile = {
      services: ["compute", "<script>"],
      privacyCompliance: "gdpr",
      rewardSplit: [50, 60],
      maxResources: { cpu: "20", memory: 512, storage: Number.POSITIVE_INFINITY },
      model: "../../etc/passwd",
      contextLength: "4096",
      kvCache: "q4",
      assistant: "yes",
      host: "native",
      siteId: "x".repeat(1000),
      surplus: 1,
    };
    expect(readSiteOptions(hostile)).toEqual({
      services: ["compute"],
      maxResources: { memory: 512 },
      siteId: "x".repeat(128),
    });
    for (const nonsense of [null, undefined, 1, "x", []]) expect(readSiteOptions(nonsense)).toEqual({});
  });
});

test("distance is Levenshtein's", () => {
  expect(editDistance("kitten", "sitting")).toBe(3);
  expect(editDistance("", "abc")).toBe(3);
  expect(editDistance("flaw", "lawn")).toBe(2);
  expect(nearest("zzzzzz", ["compute", "storage"])).toBeUndefined();
});
