/** The numbers at the end of `npm test` come from here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { count, run } from "./run.mjs";

test("what each runner counted is understood, with colours and without", () => {
  const cases = [
    [
      "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured\ntest result: FAILED. 2 passed; 1 failed; 0 ignored",
      6,
      1,
      1,
    ],
    ["ℹ tests 9\nℹ pass 7\nℹ fail 1\nℹ skipped 1\nℹ todo 0\n", 7, 1, 1],
    ["# tests 3\n# pass 3\n# fail 0\n# skipped 0\n", 3, 0, 0],
    [
      "\u001b[2m      Tests \u001b[22m \u001b[1m\u001b[32m72 passed\u001b[39m | \u001b[31m2 failed\u001b[39m\u001b[90m (74)\u001b[39m\n",
      72,
      2,
      0,
    ],
    ["said something\n5 passed, 0 failed, 2 skipped\n", 5, 0, 2],
    ["nothing at all", 0, 0, 0],
  ];
  for (const [output, passed, failed, skipped] of cases) {
    assert.deepEqual(count(output), { passed, failed, skipped }, output);
  }
});

test("a program that fails, is missing, or does not end is told apart", async () => {
  assert.equal((await run(process.execPath, ["-e", "process.exit(3)"])).status, 3);
  await assert.rejects(run("no-such-program", []), /cannot be started/);
  const late = await run(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { minutes: 0.02 });
  assert.equal(late.status, 124);
});
