/**
 * Chromium as people run it: started by us with a profile on disk, then driven over CDP. Playwright's own launch would
 * switch off storage partitioning and the throttling of hidden tabs, which are half of what is tested here.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";

const paths = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];

export function chromiumPath() {
  const path = paths.find((candidate) => candidate && existsSync(candidate));
  if (!path) throw new Error("no Chromium: install the package `chromium`, or name one in CHROMIUM");
  return path;
}

/** What keeps the browser from talking to its maker, and nothing that changes how pages behave. */
const quiet = [
  "--no-first-run",
  "--no-default-browser-check",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-domain-reliability",
  "--password-store=basic",
];

const running = new Set();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    for (const kill of running) kill();
    process.exit(1);
  });
}

/**
 * @param {{profile: string, args?: string[], env?: Record<string, string>, processors?: number}} options `processors`: no
 * more than these, and it knows of no more
 */
export async function startChromium({ profile, args = [], env = {}, processors: most }) {
  const portFile = join(profile, "DevToolsActivePort");
  rmSync(portFile, { force: true });
  rmSync(join(profile, "SingletonLock"), { force: true });
  const pinned = most === undefined ? [] : ["taskset", "--cpu-list", `0-${most - 1}`];
  const [command, ...before] = [...pinned, chromiumPath()];
  const child = spawn(
    command,
    [
      ...before,
      "--headless=new",
      "--no-sandbox",
      ...quiet,
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      "--window-size=1280,900",
      ...args,
      "about:blank",
    ],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, LANGUAGE: "en", ...env }, detached: true },
  );
  let errors = "";
  child.stderr.on("data", (data) => {
    errors = `${errors}${data}`.slice(-4000);
  });
  const kill = () => {
    try {
      // The process group: the browser, and every process it made.
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  process.once("exit", kill);
  running.add(kill);
  const port = await readPort(portFile, child, () => errors);
  const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`);
  const ended = new Promise((done) => child.once("exit", done));
  return {
    browser,
    context: browser.contexts()[0],
    pid: child.pid,
    /** A clean end, so that everything is on disk. */
    async close() {
      process.off("exit", kill);
      running.delete(kill);
      const session = await browser.newBrowserCDPSession();
      await session.send("Browser.close").catch(() => {});
      await Promise.race([ended, sleep(10_000)]);
      kill();
    },
    /** As a power cut would. */
    async crash() {
      process.off("exit", kill);
      running.delete(kill);
      kill();
      await ended;
    },
  };
}

async function readPort(file, child, errors) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (child.exitCode !== null) throw new Error(`Chromium ended at once:\n${errors()}`);
    if (existsSync(file)) {
      const port = Number(readFileSync(file, "utf8").split("\n")[0]);
      if (port > 0) return port;
    }
    await sleep(100);
  }
  throw new Error(`Chromium did not open its debugging port:\n${errors()}`);
}

/** Milliseconds of processor time that the browser's renderers have used so far, all threads, from the kernel. */
export function rendererCpuMs(browserPid) {
  let nanoseconds = 0;
  for (const pid of descendants(browserPid)) {
    if (!read(`/proc/${pid}/cmdline`).includes("--type=renderer")) continue;
    for (const task of list(`/proc/${pid}/task`)) {
      nanoseconds += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(" ")[0] || 0);
    }
  }
  return nanoseconds / 1e6;
}

/** Milliseconds of processor time that everything on this machine has used so far. */
export function machineCpuMs() {
  const [, user, nice, system, , , irq, softirq] = read("/proc/stat").split("\n")[0].split(/\s+/).map(Number);
  // In ticks of USER_HZ, which is 100 on every Linux that runs a browser.
  return (user + nice + system + irq + softirq) * 10;
}

/** Resident memory of the browser's renderers that are not shared with others, in bytes. */
export function rendererMemory(browserPid) {
  return descendants(browserPid)
    .filter((pid) => read(`/proc/${pid}/cmdline`).includes("--type=renderer"))
    .map((pid) => /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0)
    .reduce((sum, kilobytes) => sum + Number(kilobytes) * 1024, 0);
}

export const processors = cpus().length;

function descendants(root) {
  const children = new Map();
  for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
    const parent = / \(.*\) \S (\d+)/s.exec(` ${read(`/proc/${pid}/stat`)}`)?.[1];
    if (parent) children.set(Number(parent), [...(children.get(Number(parent)) ?? []), Number(pid)]);
  }
  const all = [];
  const walk = (pid) => {
    for (const child of children.get(pid) ?? []) {
      all.push(child);
      walk(child);
    }
  };
  walk(root);
  return all;
}

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function list(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
