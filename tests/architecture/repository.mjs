/** What the rules look at: tracked files and the crates of the workspace. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Tracked files and new ones that git does not ignore, so that a rule speaks up before the commit. */
export function files() {
  const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    maxBuffer: 64 << 20,
  });
  return list
    .toString()
    .split("\0")
    .filter(Boolean)
    .filter((path) => read(path) !== null);
}

/** A file's text; `null` where it is binary or was deleted but not committed yet. */
export function read(path) {
  try {
    const bytes = readFileSync(join(root, path));
    return bytes.subarray(0, 8192).includes(0) ? null : bytes.toString();
  } catch {
    return null;
  }
}

/** The packages of the workspace; with `dependencies` also everything they pull in. */
export function cargoPackages({ dependencies = false } = {}) {
  const args = ["metadata", "--format-version", "1", "--locked", ...(dependencies ? [] : ["--no-deps"])];
  const { packages } = JSON.parse(cargo(args));
  if (!dependencies) return packages;
  // The lock file also has what a feature would bring if another one were on; it is compiled nowhere.
  const every = ["--workspace", "--target", "all", "--edges", "normal,build,dev"];
  const lines = cargo(["tree", "--locked", ...every, "--prefix", "none", "--format", "{p}"]).split("\n");
  const compiled = new Set(lines.map((line) => line.split(" ").slice(0, 2).join(" ")));
  return packages.filter(({ name, version }) => compiled.has(`${name} v${version}`));
}

function cargo(args) {
  const options = { cwd: root, maxBuffer: 256 << 20, stdio: ["ignore", "pipe", "inherit"] };
  return execFileSync("cargo", args, options).toString();
}
