/** Licences and sources of what we depend on, against the lists of deny.toml (the same that cargo-deny reads). */
import { read } from "./repository.mjs";

/** The strings of an array in deny.toml, or the `name`/`crate` of its tables. */
export function denyList(section, key, text = read("deny.toml")) {
  const body = text.split(/^\[/m).find((part) => part.startsWith(`${section}]`)) ?? "";
  const list = new RegExp(`^${key}\\s*=\\s*\\[([\\s\\S]*?)^\\]`, "m").exec(body)?.[1] ?? "";
  const pattern = list.includes("crate =") ? /crate = "([^"]+)"/g : /"([^"]+)"/g;
  return [...list.replace(/#.*$/gm, "").matchAll(pattern)].map((match) => match[1]);
}

/** Whether an SPDX expression can be met with the allowed licences. */
export function licenceAllowed(expression, allowed) {
  // Cargo's old style: "MIT/Apache-2.0".
  const tokens = expression.replaceAll("/", " OR ").match(/\(|\)|[^\s()]+/g) ?? [];
  let at = 0;
  const either = () => {
    let ok = both();
    while (tokens[at] === "OR") {
      at += 1;
      const right = both();
      ok = ok || right;
    }
    return ok;
  };
  const both = () => {
    let ok = single();
    while (tokens[at] === "AND") {
      at += 1;
      const right = single();
      ok = ok && right;
    }
    return ok;
  };
  const single = () => {
    if (tokens[at] === "(") {
      at += 1;
      const ok = either();
      at += 1;
      return ok;
    }
    let licence = tokens[at];
    at += 1;
    if (tokens[at] === "WITH") {
      licence = `${licence} WITH ${tokens[at + 1]}`;
      at += 2;
    }
    return allowed.includes(licence);
  };
  return tokens.length > 0 && either() && at >= tokens.length;
}

export function dependencyProblems(packages, { allowed, banned }) {
  const problems = [];
  for (const { name, version, license, source } of packages) {
    const id = `${name} ${version}`;
    if (source !== null && !source.startsWith("registry+https://github.com/rust-lang/crates.io-index")) {
      problems.push(`${id}: comes from ${source}`);
    }
    if (!license || !licenceAllowed(license, allowed)) {
      problems.push(`${id}: licence ${license ?? "unknown"} is not in deny.toml`);
    }
    if (banned.includes(name)) problems.push(`${id}: banned in deny.toml`);
  }
  return problems;
}
