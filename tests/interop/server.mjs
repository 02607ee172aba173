/** Starts `kwaainet serve` on a free port with a real model, and ends it as a service manager would. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(fileURLToPath(import.meta.url), "../../..");
export const MODEL = "smollm2-135m-instruct-q4_1";

/** The program: `KWAAINET_BIN`, or what cargo has built, or what it builds now. */
export function program() {
  if (process.env.KWAAINET_BIN) return process.env.KWAAINET_BIN;
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  const binary = join(target, "debug", process.platform === "win32" ? "kwaainet.exe" : "kwaainet");
  const { status } = spawnSync("cargo", ["build", "-q", "-p", "kwaainet"], { cwd: root, stdio: "inherit" });
  if (status !== 0) throw new Error("the program does not build");
  return binary;
}

/** The model's file, or null where nobody has fetched it. */
export function modelFile() {
  const file = join(root, ".cache/models", `${MODEL}.gguf`);
  return existsSync(file) ? file : null;
}

/**
 * @param {string[]} flags
 * @returns {Promise<{url: string, port: number, child: import("node:child_process").ChildProcess, stop(): Promise<number>}>}
 */
export async function serve(flags = []) {
  const args = ["serve", "--json", "--port", "0", "--model", modelFile(), ...flags];
  // Settings of whoever runs the tests must not decide their outcome.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("KWAAINET_")),
  );
  const child = spawn(program(), args, {
    env: { ...env, XDG_CONFIG_HOME: "/nonexistent" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let errors = "";
  child.stderr.on("data", (data) => {
    errors += data;
  });
  const ended = new Promise((done) => child.once("exit", (code) => done(code)));
  let output = "";
  const first = new Promise((done, failed) => {
    child.stdout.on("data", (data) => {
      output += data;
      if (output.includes("\n")) done(JSON.parse(output));
    });
    ended.then((code) => failed(new Error(`kwaainet serve ended with ${code}: ${errors}`)));
  });
  const { url, port, model } = await first;
  const stop = () => {
    child.kill("SIGTERM");
    return ended;
  };
  return { url, port, model, child, stop };
}
