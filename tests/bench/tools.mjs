/** Running other programs. */
import { spawnSync } from "node:child_process";

/** What a program says in its last line, which is JSON. */
export function json(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: import.meta.dirname,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  if (error || status !== 0) throw new Error(error?.message ?? stderr.trim().slice(-400));
  return JSON.parse(stdout.trim().split("\n").at(-1));
}
