/** The network's section of docs/benchmarks.md, from what was measured and from nothing else. */
import { verdict } from "../goals.mjs";
import { median } from "../report.mjs";
import { UPLOAD } from "./share.mjs";

/** Key, label, unit, divisor, digits, whether more is better, and how many times the rival it is to be at least. */
const wireRows = [
  ["joinedMs", "from the start of a worker to its first connection", "ms", 1, 0, false, 1],
  ["connectMs", "one more connection", "ms", 1, 1, false, 1],
  ["echo64", "echo of 64 B", "ms", 1, 2, false, 1],
  ["echo8192", "echo of 8 KB", "ms", 1, 2, false, 1],
  ["echo1000000", "echo of 1 MB", "ms", 1, 1, false, 2],
  ["through", "both ways at once, each", "MB/s", 1, 1, true, 1],
  ["memory", "memory of the worker, connected", "MB", 1e6, 1, false, 1],
];
/** Megabytes. */
export const MOST = { worker: 40, peer: 25 };

const of = (runs, key, divisor = 1) =>
  runs.map((run) => run[key] / divisor).filter((value) => Number.isFinite(value));

/** The median, and how far the rounds lie apart. */
function cell(values, digits) {
  if (values.length === 0) return "";
  const shown = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return `${median(values).toFixed(digits)} (${shown.join("–")})`;
}

const line = (cells) => `| ${cells.join(" | ")} |`;
const table = (head, rows) => [line(head), `|---|${"---:|".repeat(head.length - 1)}`, ...rows].join("\n");

/** How many times better the first is than the second, of the same rounds: the median of the rounds' ratios. */
function times(ours, theirs, key, moreIsBetter) {
  const ratios = ours.map((run, round) => {
    const [own, other] = [run[key], theirs[round]?.[key]];
    return moreIsBetter ? own / other : other / own;
  });
  return median(ratios.filter((ratio) => Number.isFinite(ratio) && ratio > 0));
}

export function wireTable(results, rival) {
  const [ours, ...others] = Object.keys(results);
  const rows = wireRows.map(([key, label, unit, divisor, digits, moreIsBetter, least]) => {
    const cells = Object.values(results).map((runs) => cell(of(runs, key, divisor), digits));
    const ratio = times(results[ours], results[rival], key, moreIsBetter);
    const goals = [`${least} times: ${verdict(ratio >= least)}`];
    if (key === "memory")
      goals.push(`below ${MOST.worker}: ${verdict(median(of(results[ours], key, divisor)) < MOST.worker)}`);
    return line([`${label} (${unit})`, ...cells, ratio?.toFixed(2) ?? "", goals.join("; ")]);
  });
  return table(["", ours, ...others, `times ${rival}`, "goal"], rows);
}

export function shareTable(results) {
  const alone = results[0];
  const rows = Object.entries(results).map(([peers, runs]) =>
    line([
      peers === "0" ? "the server alone" : `the server, and ${peers} peer${peers === "1" ? "" : "s"}`,
      cell(of(runs, "seconds"), 1),
      cell(of(runs, "rate"), 1),
      peers === "0" ? "" : times(runs, alone, "rate", true).toFixed(2),
      cell(of(runs, "fromPeers"), 0),
    ]),
  );
  const head = ["whole model", "s", "MB/s", "times the server", "from peers (%)"];
  return table(head, rows);
}

export function idleTable(results) {
  const memory = of(results, "memory", 1e6);
  const goal = `below ${MOST.peer}: ${verdict(median(memory) < MOST.peer)}`;
  return table(["", "MB", "goal"], [line(["`kwaainet peer --relay`, idle", cell(memory, 1), goal])]);
}

export function section({ command, date, commit, rounds, machine, load, wire, share, idle }) {
  const parts = [
    `## The network

Written by \`${command}\` on ${date} at commit ${commit}; medians of ${rounds} rounds (of the model: at most two) in which all took turns, with the least and the most of them
in brackets. Everything is on one machine (${machine}; load average before the run: ${load}), so that processors are what limits it:
no round trip takes longer than its computing. "Times" is the median of each round's ratio; above 1 is better for us.`,
  ];
  if (wire)
    parts.push(
      `### A browser's worker and a native peer, over WebSocket

Chromium, headless, against the same \`kwaainet peer --echo\` (release build). Each is in a worker of its own with Noise and yamux; the bytes of each echo are
compared. Ours is timed in the page, a port away from that worker, as the node is in life; js-libp2p in its own worker. "Both ways
at once": 32 messages of 1 MB, none of which waits for the echo of another. Memory: by how much the page's renderer grew (PSS).`,
      wireTable(wire.ws, "js-libp2p"),
      `### A browser and a native peer, over WebRTC

The same with \`/webrtc-direct\`, version 2 for ours and 1 for js-libp2p. Browsers have WebRTC in windows only: js-libp2p runs in the page, and what
ours receives goes from the page to its worker and back.`,
      wireTable(wire.webrtc, "js-libp2p"),
    );
  if (share)
    parts.push(
      `### A model from peers

A visitor of a site agrees, joins and fetches SmolLM2 135M (Q4_1), from the first report of progress to the last. Every source gives at
most ${UPLOAD} MB/s, the peers by \`--upload\` and the site's server by the bench: what is compared is whether sources add up.`,
      shareTable(share),
    );
  if (idle) parts.push("### Idle", idleTable(idle));
  return parts.join("\n\n");
}
