// Our engine, asked line by line.
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Builds the probe (once) and starts it. */
export class Probe {
  #child;
  #waiting = [];

  static start() {
    if (process.env.KWAAINET_ORACLE_PROBE) return Probe.#run(process.env.KWAAINET_ORACLE_PROBE);
    const build = ["build", "--quiet", "-p", "kwaainet-engine", "--example", "oracle_probe"];
    const messages = ["--message-format", "json-render-diagnostics"];
    const built = spawnSync("cargo", [...build, ...messages], {
      cwd: root,
      encoding: "utf8",
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (built.status !== 0) throw new Error("the probe does not build");
    const program = built.stdout
      .split("\n")
      .filter((line) => line.includes('"oracle_probe"') && line.includes('"executable"'))
      .map((line) => JSON.parse(line).executable)
      .findLast((path) => path);
    if (!program) throw new Error("cargo did not name the probe");
    return Probe.#run(program);
  }

  /** A probe that was built before, if KWAAINET_ORACLE_PROBE names it. */
  static #run(program) {
    const self = new Probe();
    self.#child = spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: self.#child.stdout }).on("line", (line) =>
      self.#waiting.shift()?.resolve(JSON.parse(line)),
    );
    self.#child.on("exit", (code) => {
      for (const { reject } of self.#waiting) reject(new Error(`the probe ended with ${code}`));
      self.#waiting = [];
    });
    return self;
  }

  ask(question) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    });
  }

  async logits(tokens) {
    const { logits } = await this.ask({ op: "logits", tokens });
    const bits = new Uint32Array(logits.length / 8);
    for (let i = 0; i < bits.length; i += 1) bits[i] = Number.parseInt(logits.slice(8 * i, 8 * i + 8), 16);
    return new Float32Array(bits.buffer);
  }

  async load(path) {
    const loaded = await this.ask({ op: "load", path });
    if (loaded.error) throw new Error(`${path}: ${loaded.error}`);
    return loaded;
  }

  async greedy(tokens, count) {
    return (await this.ask({ op: "greedy", tokens, count })).tokens;
  }

  async score(tokens) {
    return (await this.ask({ op: "score", tokens })).scores;
  }

  stop() {
    this.#child.stdin.end();
  }
}
