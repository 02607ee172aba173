/** What systemd and a container start is a command that the program understands, with the settings of those files. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

const program = process.env.KWAAINET_BIN;
if (!program) throw new Error("KWAAINET_BIN says which `kwaainet` is tested: npm test -- --only interop");
const folder = new URL("../../native-host/service/", import.meta.url);
const unit = readFileSync(new URL("kwaainet-peer.service", folder), "utf8");
const container = readFileSync(new URL("Containerfile", folder), "utf8");

const matches = (text, pattern) => [...text.matchAll(pattern)].map(([, ...groups]) => groups);
const settings = (pairs) => Object.fromEntries(pairs);

/** Starts it on free ports of this machine, and ends it as a service manager does. */
async function starts(args, env) {
  const data = mkdtempSync(join(tmpdir(), "kwaainet-service-"));
  const here = env.KWAAINET_LISTEN.replaceAll("0.0.0.0", "127.0.0.1").replaceAll(/\/400\d/g, "/0");
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env, KWAAINET_LISTEN: here, KWAAINET_DATA_DIR: data, KWAAINET_CONTROL: "0" },
  });
  const lines = createInterface({ input: child.stdout });
  const said = [];
  for await (const line of lines) {
    said.push(line);
    if (said.length === 1 + here.split(",").length) break;
  }
  child.kill("SIGTERM");
  const code = await new Promise((resolve) => child.once("exit", resolve));
  assert.equal(code, 0, said.join("\n"));
  assert.match(said[0], /^This peer is 12D3KooW/);
  for (const way of ["/tcp/", "/quic-v1/", "/ws/"]) {
    assert.ok(
      said.some((line) => line.includes(way)),
      `${way} in ${said.join("\n")}`,
    );
  }
  assert.equal(statSync(join(data, "peer.key")).mode & 0o777, 0o600);
  rmSync(data, { recursive: true });
}

test("the systemd unit", async () => {
  const [[command]] = matches(unit, /^ExecStart=\/usr\/local\/bin\/kwaainet (.+)$/gm);
  await starts(command.split(" "), settings(matches(unit, /^Environment=(\w+)=(.+)$/gm)));
});

test("the systemd unit is one for systemd", (t) => {
  if (spawnSync("systemd-analyze", ["--version"]).error) {
    t.skip("SKIPPED: systemd-analyze is not installed, so nobody checked the unit");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "kwaainet-unit-"));
  const file = join(folder, "kwaainet-peer.service");
  // The program need not be installed for that.
  writeFileSync(file, unit.replace("/usr/local/bin/kwaainet", "/bin/true"));
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", file], { encoding: "utf8" });
  rmSync(folder, { recursive: true });
  const ours = stderr.split("\n").filter((line) => line.includes("kwaainet-peer"));
  assert.deepEqual([status, ours], [0, []]);
});

test("the container", async () => {
  const list = (name) => JSON.parse(matches(container, new RegExp(`^${name} (\\[.*\\])$`, "gm"))[0][0]);
  assert.deepEqual(list("ENTRYPOINT"), ["kwaainet"]);
  await starts(list("CMD"), settings(matches(container, /^ENV (\w+)=(.+)$/gm)));
});
