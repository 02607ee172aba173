/**
 * Builds the wasm, the node twice where threads can be had:
 *
 *   pkg/simd/     one thread; every browser
 *   pkg/threads/  shared memory and relaxed SIMD; cross-origin isolated pages (docs/decisions/0006)
 *   pkg/network/  libp2p, for visitors who help others
 *
 * and writes the TypeScript of the first two (they are equal) to js/src/protocol/generated. Run as a program:
 * `node sdk-wasm/build.mjs [--no-threads | --suites]`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const triple = "wasm32-unknown-unknown";

/** Largest memory that a build with threads may grow to. Shared memory is reserved at once, so not 4 GiB. */
const mostSharedMemory = (2 << 30) >>> 0;

const node = { crate: "kwaainet-sdk-wasm", profile: "wasm" };
const builds = {
  simd: { ...node, targetDir: target, flags: [], env: {}, cargo: [] },
  network: {
    crate: "kwaainet-sdk-wasm-network",
    // It waits for others most of its time: small is what counts.
    profile: "wasm-small",
    targetDir: target,
    flags: [],
    env: {},
    cargo: [],
  },
  threads: {
    ...node,
    // Another folder: the standard library is compiled anew, and must not evict the other build's.
    targetDir: join(target, "threads"),
    flags: [
      "-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals,+relaxed-simd",
      ...["--shared-memory", "--import-memory", `--max-memory=${mostSharedMemory}`].map(
        (arg) => `-Clink-arg=${arg}`,
      ),
      // wasm-bindgen sets up each thread's stack and thread-local storage through these.
      ...["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__heap_base"].map(
        (name) => `-Clink-arg=--export=${name}`,
      ),
    ],
    // The prebuilt standard library knows no threads on this target. Building it is an unstable option of
    // cargo, and this is how a pinned stable toolchain is told to allow it.
    env: { RUSTC_BOOTSTRAP: "1" },
    cargo: ["-Zbuild-std=std,panic_abort"],
  },
};

function run(command, args, env = {}) {
  const done = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (done.error) throw new Error(`${command} cannot be started: ${done.error.message}`);
  if (done.status !== 0) throw new Error(`${command} ${args.join(" ")} failed with exit code ${done.status}`);
}

/** Flags of .cargo/config.toml, which RUSTFLAGS replaces instead of adding to. */
function configuredFlags() {
  const config = readFileSync(join(root, ".cargo/config.toml"), "utf8");
  const list = config.slice(config.indexOf(`[target.${triple}]`)).match(/rustflags\s*=\s*(\[[^\]]*\])/)?.[1];
  if (!list) throw new Error(`.cargo/config.toml has no rustflags for ${triple}`);
  return JSON.parse(list);
}

function sysroot() {
  return spawnSync("rustc", ["--print", "sysroot"], { cwd: root, encoding: "utf8" }).stdout?.trim();
}

/** Whether the standard library's source is here, which the build with threads needs. */
export function canBuildThreads() {
  const rust = sysroot();
  return Boolean(rust) && existsSync(join(rust, "lib/rustlib/src/rust/library/std/Cargo.toml"));
}

/** Compiles with the flags of the build `name`; returns the folder with what was made. */
function compile(name, what) {
  const { crate, profile, targetDir, flags, env, cargo } = builds[name];
  // No path of this machine in the file: the same source gives the same bytes anywhere.
  const home = process.env.CARGO_HOME ?? join(process.env.HOME ?? "", ".cargo");
  const places = { [root]: ".", [home]: "cargo", [sysroot()]: "rust" };
  const remap = Object.entries(places).map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
  const place = ["--profile", profile, "--target", triple, "--target-dir", targetDir];
  run("cargo", ["build", "--locked", "-p", crate, ...what, ...place, ...cargo], {
    ...env,
    CARGO_ENCODED_RUSTFLAGS: [...configuredFlags(), ...flags, ...remap].join("\x1f"),
  });
  return join(targetDir, triple, profile);
}

function bind(wasm, out) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  run("cargo", ["run", "--locked", "--quiet", "-p", "kwaainet-bindgen", "--", wasm, out]);
}

/** Builds `pkg/simd`, `pkg/threads` or `pkg/network`. */
export function buildWasm(name) {
  const out = join(here, "pkg", name);
  bind(join(compile(name, ["--lib"]), `${builds[name].crate.replaceAll("-", "_")}.wasm`), out);
  return out;
}

/** Builds `pkg/suites`: the conformance suites, for the browser tests. Never shipped. */
export function buildSuites() {
  bind(join(compile("simd", ["--example", "suites"]), "examples/suites.wasm"), join(here, "pkg/suites"));
}

/** The golden TypeScript of a build: what the page's side is checked against. The build with threads has the same. */
export function writeTypes(name = "simd") {
  // The list of raw exports is nobody's business, and has names that change with the compiler.
  const rawExports = /(export interface InitOutput \{\n {4}readonly memory: WebAssembly\.Memory;\n)[^}]*\}/;
  const types = readFileSync(join(here, "pkg", name, "kwaainet.d.ts"), "utf8").replace(rawExports, "$1}");
  const file = name === "simd" ? "kwaainet.d.ts" : `${name}.d.ts`;
  const golden = join(root, "js/src/protocol/generated", file);
  mkdirSync(dirname(golden), { recursive: true });
  const before = existsSync(golden) ? readFileSync(golden, "utf8") : "";
  if (before !== types) writeFileSync(golden, types);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes("--suites")) {
    buildSuites();
  } else {
    const threads = !process.argv.includes("--no-threads") && canBuildThreads();
    for (const name of ["simd", ...(threads ? ["threads"] : []), "network"]) {
      console.log(`${name}: ${statSync(join(buildWasm(name), "kwaainet_bg.wasm")).size} bytes`);
    }
    writeTypes();
    writeTypes("network");
  }
}
