/**
 * Which crate may know which. Arrows point down only; spokes do not see each other. What two spokes share is a
 * type in `kwaainet-types`, or is wired together in `kwaainet-node`.
 */
const core = ["kwaainet-types", "kwaainet-platform"];
const spokes = ["kwaainet-engine", "kwaainet-network"];

export const layers = {
  "kwaainet-types": [],
  "kwaainet-platform": ["kwaainet-types"],
  ...Object.fromEntries(spokes.map((spoke) => [spoke, core])),
  // libp2p behind the network's trait: nobody else may know libp2p.
  "kwaainet-p2p": [...core, "kwaainet-network", "kwaainet-webrtc"],
  // Frames and credentials of WebRTC, without libp2p: browsers and sockets meet here.
  "kwaainet-webrtc": [],
  "kwaainet-node": [...core, ...spokes],
  "kwaainet-testkit": [...core, ...spokes, "kwaainet-node"],
  "kwaainet-browser": core,
  "kwaainet-sdk-wasm": [...core, ...spokes, "kwaainet-node", "kwaainet-browser"],
  // The transport in a browser: a module of its own, which the node's module reaches over a port.
  "kwaainet-sdk-wasm-network": [
    ...core,
    "kwaainet-network",
    "kwaainet-webrtc",
    "kwaainet-p2p",
    "kwaainet-browser",
  ],
  "kwaainet-bindgen": [],
  // Real nodes are what the simulated ones are compared with.
  "kwaainet-simulation": [...core, "kwaainet-network", "kwaainet-p2p"],
  kwaainet: [...core, ...spokes, "kwaainet-node", "kwaainet-p2p", "kwaainet-webrtc"],
};

/** What ties code to one home. The portable core gets all of this from `kwaainet-platform`. */
const hostBound =
  /^(tokio|async-std|smol|reqwest|ureq|hyper|axum|web-sys|js-sys|wasm-bindgen.*|gloo.*|rexie|tsify|web-time|instant|redb|sled|rayon|chrono)$/;

/** @param {{name: string, manifest_path: string, dependencies: {name: string, kind: string | null, optional: boolean}[]}} crate */
export function crateProblems(crate) {
  const allowed = layers[crate.name];
  if (!allowed) {
    return [
      `${crate.name}: not in the table of tests/architecture/crates.mjs; decide what it may know and add it`,
    ];
  }
  const problems = [];
  for (const dependency of crate.dependencies) {
    const { name, kind } = dependency;
    if (name.startsWith("kwaainet") && kind !== "dev" && !allowed.includes(name)) {
      problems.push(`${crate.name} -> ${name}: this arrow points up or sideways`);
    }
    if (name === "kwaainet-testkit" && kind !== "dev") {
      problems.push(`${crate.name} -> ${name}: the testkit is for dev-dependencies`);
    }
    if (!inCore(crate) || kind === "dev" || !hostBound.test(name)) continue;
    const typeScript = crate.name === "kwaainet-types" && ["tsify", "wasm-bindgen"].includes(name);
    if (typeScript && dependency.optional) continue;
    problems.push(`${crate.name} -> ${name}: the core is portable; lend it through kwaainet-platform`);
  }
  if (inCore(crate) && Object.hasOwn(crate.features ?? {}, "default")) {
    const writesTypeScript = crate.features.default.includes("ts");
    if (writesTypeScript) problems.push(`${crate.name}: feature \`ts\` must be off by default`);
  }
  return problems;
}

function inCore(crate) {
  return /[\\/]sdk-core[\\/]/.test(crate.manifest_path);
}
