/** Running programs, for every task: no shell, output as it comes, and what a test runner counted. */
import { spawn, spawnSync } from "node:child_process";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * Runs a program to its end.
 *
 * @param {{cwd?: string, env?: Record<string, string>, minutes?: number}} [options]
 * @returns {Promise<{status: number, output: string}>} the last megabyte of what it said
 */
export function run(command, args, { cwd = root, env = {}, minutes = 30 } = {}) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own, so that what it started ends with it.
      detached: true,
    });
    let output = "";
    let late = false;
    const kill = () => {
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    };
    const stop = () => {
      kill();
      process.exit(130);
    };
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
    const limit = setTimeout(() => {
      late = true;
      kill();
    }, minutes * 60_000);
    const hear = (stream, to) =>
      stream.on("data", (data) => {
        to.write(data);
        output = (output + data).slice(-1_000_000);
      });
    hear(child.stdout, process.stdout);
    hear(child.stderr, process.stderr);
    const end = () => {
      clearTimeout(limit);
      process.off("SIGINT", stop);
      process.off("SIGTERM", stop);
    };
    child.once("error", (error) => {
      end();
      failed(new Error(`${command} cannot be started: ${error.message}`));
    });
    child.once("close", (status) => {
      end();
      kill();
      if (late) output += `\nstopped after ${minutes} minutes`;
      done({ status: late ? 124 : (status ?? 1), output });
    });
  });
}

/** Runs a program that must succeed. */
export async function must(command, args, options) {
  const { status, output } = await run(command, args, options);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} failed with exit code ${status}`);
  return output;
}

/** What a program prints, or null when it is not there or fails. */
export function ask(command, args = []) {
  const { status, stdout } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : null;
}

// Colours would hide the numbers from the expressions below.
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is what colours are
const colours = /\x1b\[[0-9;]*m/g;

const counters = [
  // cargo test, also several times
  {
    each: /test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/g,
    order: ["passed", "failed", "skipped"],
  },
  // node --test
  { each: /^(?:#|ℹ) pass (\d+)$/gm, order: ["passed"] },
  { each: /^(?:#|ℹ) fail (\d+)$/gm, order: ["failed"] },
  { each: /^(?:#|ℹ) (?:skipped|todo) (\d+)$/gm, order: ["skipped"] },
  // our own programs
  { each: /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm, order: ["passed", "failed", "skipped"] },
];
const vitest = /^\s*Tests\s+(.*)\(\d+\)\s*$/gm;

/** Adds up what the test runners in `output` counted. */
export function count(output) {
  const text = output.replace(colours, "");
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const { each, order } of counters) {
    for (const [, ...numbers] of text.matchAll(each)) {
      order.forEach((name, at) => {
        sum[name] += Number(numbers[at] ?? 0);
      });
    }
  }
  for (const [, line] of text.matchAll(vitest)) {
    for (const [, number, name] of line.matchAll(/(\d+) (passed|failed|skipped)/g))
      sum[name] += Number(number);
  }
  return sum;
}

export function duration(ms) {
  const seconds = ms / 1000;
  return seconds < 90
    ? `${seconds.toFixed(1)} s`
    : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
