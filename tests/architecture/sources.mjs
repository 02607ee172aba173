/** Rules about single files. Each takes a path and its text and returns problems as sentences. */

/** The only files of the core that may ask what they are compiled for. */
const mayAskForTarget = ["sdk-core/platform/src/send.rs"];
/** Where the engine chooses between instruction sets. */
const kernels = /^sdk-core\/engine\/src\/backend\/cpu\/(isa|mod)\.rs$/;

export function targetProblems(path, text) {
  if (!path.startsWith("sdk-core/") || !path.endsWith(".rs")) return [];
  if (mayAskForTarget.includes(path) || kernels.test(path)) return [];
  return lines(text.replace(/\/\/.*$/gm, ""), /\bcfg(?:_attr)?!?\s*\(.*\btarget_\w+/).map(
    (line) => `${path}:${line}: cfg(target_…) belongs into the adapters or ${mayAskForTarget.join(", ")}`,
  );
}

const source = /\.(rs|ts|mts|mjs|js|css|html)$/;
const longest = 600;

export function lengthProblems(path, text) {
  if (!source.test(path) || isGenerated(text)) return [];
  const count = text.split("\n").length - 1;
  return count > longest ? [`${path}: ${count} lines; split it before it passes ${longest}`] : [];
}

/** Generated files say so in their first lines, and by what they are made. */
function isGenerated(text) {
  return /generated|written by|tslint:disable/i.test(text.split("\n", 5).join("\n"));
}

export function crateDocsProblems(path, text) {
  if (!/^(sdk-core\/[^/]+|sdk-wasm|native-host)\/src\/lib\.rs$/.test(path)) return [];
  const head = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith("//!")) break;
    head.push(line);
  }
  if (head.length < 3) {
    return [`${path}: open it with //! lines: what it is, what it must not know, its entry type`];
  }
  return [];
}

// Spelled in parts, so that this file does not match itself.
const slash = "/";
const elsewhere = [
  {
    what: "a path of somebody's machine",
    pattern: new RegExp(`(?<![\\w.$}~/-])${slash}(?:work|root|home/\\w+|Users/\\w+)${slash}\\w`),
  },
  { what: "a path outside the repository", pattern: new RegExp(`\\.\\.${slash}shared\\b|\\.lib${"rary"}/`) },
  {
    what: "a package registry's host",
    pattern: new RegExp(
      [
        "registry\\.npm" + "js\\.org",
        "npm" + "mirror",
        "index\\.crates" + "\\.io",
        "static\\.crates" + "\\.io",
        "files\\.python" + "hosted",
        "pypi\\.org" + "/simple",
      ].join("|"),
    ),
  },
];

export function machineProblems(path, text) {
  const problems = [];
  for (const { what, pattern } of elsewhere) {
    for (const line of lines(text, pattern)) problems.push(`${path}:${line}: names ${what}`);
  }
  return problems;
}

export function lockProblems(path, text) {
  if (path.endsWith("package-lock.json")) {
    return lines(text, /"resolved":\s*"https?:/).map(
      (line) => `${path}:${line}: the lock file must not say where a package was fetched from`,
    );
  }
  if (path.endsWith("Cargo.lock")) {
    return lines(text, /^source = (?!"registry\+https:\/\/github\.com\/rust-lang\/crates\.io-index")/).map(
      (line) => `${path}:${line}: crates come from crates.io only`,
    );
  }
  return [];
}

function lines(text, pattern) {
  const found = [];
  text.split("\n").forEach((line, at) => {
    if (pattern.test(line)) found.push(at + 1);
  });
  return found;
}
