/** What a machine needs to build and test, installed where that is ours to do, else named with the command to type. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { ask, must, root, run } from "./run.mjs";

const log = console.log;

/** npm's packages, when they are not those of the lock file. */
export async function npmPackages({ force = false } = {}) {
  const installed = join(root, "node_modules/.package-lock.json");
  const wanted = statSync(join(root, "package-lock.json")).mtimeMs;
  const have = existsSync(installed) ? statSync(installed).mtimeMs : 0;
  if (!force && have >= wanted) return log("npm packages are those of the lock file");
  await must("npm", ["ci", "--no-audit", "--no-fund"]);
}

/** The compiler's target for browsers, and its library's source for the build with threads. */
export async function rust() {
  if (ask("cargo", ["--version"]) === null) {
    throw new Error("Rust is missing: install it from https://rustup.rs (version 1.95 or newer)");
  }
  const sysroot = ask("rustc", ["--print", "sysroot"]);
  const missing = [];
  if (!existsSync(join(sysroot, "lib/rustlib/wasm32-unknown-unknown")))
    missing.push(["target", "wasm32-unknown-unknown"]);
  if (!existsSync(join(sysroot, "lib/rustlib/src/rust/library/std/Cargo.toml")))
    missing.push(["component", "rust-src"]);
  for (const [kind, name] of missing) {
    const { status } = await run("rustup", [kind, "add", name]).catch(() => ({ status: 1 }));
    if (status === 0) continue;
    if (kind === "target")
      throw new Error(`\`rustup target add ${name}\` failed: it is needed to build for browsers`);
    log(`no ${name}: only the build without threads is made (\`rustup component add ${name}\` mends that)`);
  }
}

/** Programs that Debian packages. `optional` ones may be missing. */
export async function debian(name, programs, { optional = false } = {}) {
  const found = programs.find((program) =>
    program.startsWith("/") ? existsSync(program) : ask("which", [program]),
  );
  if (found) return true;
  const command = `apt-get install -y --no-install-recommends ${name}`;
  if (process.getuid?.() === 0 && ask("which", ["apt-get"]) !== null) {
    log(`${programs[0]} is missing: ${command}`);
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    await run("apt-get", ["update", "-qq"], { env });
    const { status } = await run("apt-get", command.split(" ").slice(1), { env });
    if (status === 0) return true;
  }
  const message = `${programs[0]} is missing: install it (Debian: \`${command}\`)`;
  if (!optional) throw new Error(message);
  log(message);
  return false;
}

export const python = () => debian("python3-pip", ["pip3", "pip"]);

export async function browsers() {
  await debian(
    "chromium",
    [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean),
  );
  await debian("firefox-esr", ["firefox-esr", "firefox"], { optional: true });
}

/** Without them, or without being root, the tests behind routers are skipped, and say so. */
export async function routers() {
  await debian("iproute2", ["ip"], { optional: true });
  await debian("nftables", ["nft"], { optional: true });
}
