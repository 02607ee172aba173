/**
 * Which folder of js/src may import which. `public` is the top and only the entries above it use it; what runs in a
 * worker never reaches code that draws; what two folders share lies in `protocol` or `host`.
 */
import { dirname, join, normalize } from "node:path";

export const folders = {
  protocol: [],
  host: ["protocol"],
  device: ["protocol"],
  // What runs without a window.
  worker: ["protocol", "host"],
  network: ["protocol", "host"],
  // What only a window can do for the network's worker.
  webrtc: [],
  "service-worker": ["protocol", "host", "worker"],
  i18n: ["protocol"],
  // What is drawn; the parts know the frame's contracts and nothing else of it.
  ui: ["protocol", "i18n"],
  consent: ["protocol", "i18n", "ui", "frame/contracts"],
  assistant: ["protocol", "i18n", "ui", "frame/contracts"],
  frame: ["protocol", "host", "device", "ui"],
  public: ["protocol", "host"],
  "script-tag": ["protocol", "host", "public"],
};

const importing =
  /(?:^|\n)\s*(?:import|export)\s+(type\s+)?(?:[^"';]*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/g;

/** The relative and bare imports of a module: `{specifier, typeOnly}`. */
export function importsOf(text) {
  const bare = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  return [...bare.matchAll(importing)].map((match) => ({
    specifier: match[2] ?? match[3],
    typeOnly: Boolean(match[1]),
  }));
}

/** @param {Map<string, string>} modules path from js/src -> text */
export function importProblems(modules) {
  const problems = [];
  const edges = new Map();
  for (const [path, text] of modules) {
    const folder = folderOf(path);
    if (folder !== null && !Object.hasOwn(folders, folder)) {
      problems.push(
        `js/src/${path}: folder ${folder} is not in the table of tests/architecture/typescript.mjs`,
      );
      continue;
    }
    edges.set(path, []);
    for (const { specifier, typeOnly } of importsOf(text)) {
      if (!specifier.startsWith(".")) {
        problems.push(`js/src/${path} imports ${specifier}: what a page loads has no runtime dependencies`);
        continue;
      }
      const target = normalize(join(dirname(path), specifier)).replace(/\.js$/, "");
      if (!typeOnly) edges.get(path).push(`${target}.ts`);
      const targetFolder = folderOf(target);
      if (folder === null || targetFolder === folder) continue;
      const allowed = folders[folder];
      if (!allowed.includes(targetFolder) && !allowed.includes(target)) {
        problems.push(
          `js/src/${path} imports ${target}: ${folder} may use ${allowed.join(", ") || "nothing"}`,
        );
      }
    }
  }
  return [...problems, ...cycles(edges)];
}

function folderOf(path) {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : null;
}

function cycles(edges) {
  const problems = [];
  const done = new Set();
  const walk = (path, trail) => {
    if (trail.includes(path)) {
      problems.push(
        `js/src: a circle of imports: ${[...trail.slice(trail.indexOf(path)), path].join(" -> ")}`,
      );
      return;
    }
    if (done.has(path)) return;
    for (const next of edges.get(path) ?? []) walk(next, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) walk(path, []);
  return problems;
}
