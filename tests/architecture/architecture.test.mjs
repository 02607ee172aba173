/** The rules of ARCHITECTURE.md, checked. Run: node --test tests/architecture/ */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { crateProblems } from "./crates.mjs";
import { denyList, dependencyProblems } from "./licences.mjs";
import { cargoPackages, files, read } from "./repository.mjs";
import {
  crateDocsProblems,
  lengthProblems,
  lockProblems,
  machineProblems,
  targetProblems,
} from "./sources.mjs";
import { importProblems } from "./typescript.mjs";

const everyFile = files();

function none(problems) {
  assert.equal(problems.length, 0, `\n  ${problems.join("\n  ")}\n`);
}
const overFiles = (rule) => everyFile.flatMap((path) => rule(path, read(path)));

describe("crates", () => {
  test("arrows point down only, and the core is portable", () =>
    none(cargoPackages().flatMap(crateProblems)));
  test("every crate's lib.rs says what it is", () => none(overFiles(crateDocsProblems)));
  test("the core does not ask what it is compiled for", () => none(overFiles(targetProblems)));
  test("every dependency has an allowed licence and source", () =>
    none(
      dependencyProblems(cargoPackages({ dependencies: true }), {
        allowed: denyList("licenses", "allow"),
        banned: denyList("bans", "deny"),
      }),
    ));
  test("lock files name crates.io and no mirror", () => none(overFiles(lockProblems)));
});

describe("TypeScript", () => {
  const modules = new Map(
    everyFile
      .filter((path) => /^js\/src\/.*\.ts$/.test(path) && !/\.(test|d)\.ts$/.test(path))
      .map((path) => [path.slice("js/src/".length), read(path)]),
  );
  test("folders import in one direction, without circles and without packages", () =>
    none(importProblems(modules)));
  test("@kwaainet/sdk has no runtime dependencies", () => {
    const manifest = JSON.parse(read("js/package.json"));
    assert.deepEqual(Object.keys(manifest.dependencies ?? {}), []);
  });
});

describe("every file", () => {
  test("has at most 600 lines", () => none(overFiles(lengthProblems)));
  test("names no machine and no package registry", () => none(overFiles(machineProblems)));
});
