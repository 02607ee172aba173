// Answers under random JSON schemas, drawn from everything that each allows, and judged by ajv.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { record } from "./lib/table.mjs";

const SCHEMAS = 1000;
/** Of them, so many are put to a real model too. */
const REAL = 20;
const MODEL = fileURLToPath(new URL("../../.cache/models/smollm2-135m-instruct-q4_1.gguf", import.meta.url));
const TREE = {
  type: "object",
  properties: { left: { anyOf: [{ type: "null" }, { $ref: "#/$defs/tree" }] }, n: { type: "integer" } },
  required: ["n"],
  additionalProperties: false,
};

/** Mulberry32: the same numbers everywhere. */
function random(seed) {
  let state = seed;
  const below = (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return Math.floor((((z ^ (z >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
  return { below, pick: (list) => list[below(list.length)] };
}

function schemaOf({ below, pick }, depth) {
  const nested = () => schemaOf({ below, pick }, depth + 1);
  const small = below(5);
  const low = below(4000) - 2000;
  const high = low + below(3000);
  switch (below(depth < 4 ? 15 : 10)) {
    case 0:
      return { type: "string", maxLength: 20 };
    case 1:
      return { type: "string", minLength: small, maxLength: small + below(9) };
    case 2:
      return { type: "string", format: pick(["date", "time", "date-time", "uuid"]) };
    case 3:
      return { type: "integer", minimum: low, exclusiveMaximum: high + 1 };
    case 4:
      return { type: "number", minimum: low - 0.5, maximum: high };
    case 5:
      return { type: pick(["number", "integer", "boolean", "null"]) };
    case 6:
      return { enum: ['a"b', 1, null, [1, { x: "é" }], small + 2] };
    case 7:
      return { const: { k: [low, "\n"] } };
    case 8:
      return { type: ["integer", "string", "null"], maximum: high, minLength: small, maxLength: small + 5 };
    case 9:
      return pick([{ $ref: "#/$defs/tree" }, {}, { type: "object" }]);
    case 10:
      return { anyOf: [nested(), nested()] };
    case 11:
      return { type: "array", items: nested(), minItems: small, maxItems: small + below(3) };
    case 12:
      return {
        type: "array",
        prefixItems: [nested(), nested()],
        items: pick([false, { type: "null" }]),
        minItems: below(3),
        maxItems: 5,
      };
    case 13:
      return {
        oneOf: [
          {
            type: "object",
            properties: { kind: { const: "a" }, v: nested() },
            required: ["kind", "v"],
            additionalProperties: false,
          },
          { type: "object", properties: { kind: { const: "b" } }, required: ["kind"] },
          { type: "boolean" },
        ],
      };
    default: {
      const names = ["name", "a b", '"', "ü", "e/~"];
      const properties = Object.fromEntries(
        names.slice(0, below(names.length + 1)).map((name) => [name, nested()]),
      );
      const required = names.filter(() => below(2) === 0);
      return { type: "object", properties, required, additionalProperties: { type: "integer" } };
    }
  }
}

export async function checkGrammars(probe, scratch) {
  const path = join(scratch, "tiny.gguf");
  await probe.ask({ op: "tiny", path, architecture: "llama", format: "F32", layers: 1 });
  await check("a tiny model of random weights", probe, path, SCHEMAS, 0);
  if (existsSync(MODEL)) await check("SmolLM2 135M Q4_1", probe, MODEL, REAL, 5000);
}

async function check(name, probe, path, count, seed) {
  await probe.load(path);
  const wrong = [];
  let complete = 0;
  for (let number = seed; number < seed + count; number += 1) {
    const schema = { ...schemaOf(random(number), 0), $defs: { tree: TREE } };
    const question = { op: "constrained", tokens: [5, 6, 7], count: 400, seed: number, temperature: 1 };
    const answer = await probe.ask({ ...question, schema: JSON.stringify(schema) });
    if (answer.finish_reason === "length") continue;
    complete += 1;
    if (answer.error || !isValid(schema, answer.text))
      wrong.push(`${answer.error ?? answer.text} under ${JSON.stringify(schema)}`);
  }
  for (const line of wrong.slice(0, 5)) console.log(`      ${line}`);
  const found = `${wrong.length} of ${complete} wrong, ${count - complete} cut off`;
  record(
    `grammars: ${name} under ${count} random schemas`,
    found,
    "0 wrong, at most a fifth cut off",
    wrong.length === 0 && complete >= 0.8 * count,
  );
}

function isValid(schema, text) {
  const ajv = new Ajv2020({ strict: false, validateFormats: true });
  addFormats.default(ajv);
  try {
    return ajv.validate(schema, JSON.parse(text));
  } catch (error) {
    console.log(`      ${error.message}`);
    return false;
  }
}
