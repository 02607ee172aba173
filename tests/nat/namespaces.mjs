/**
 * A small internet on this machine: a public network with a relay's address, and two homes behind routers that let in
 * only what was asked for. Each machine is a network namespace of Linux.
 */
import { spawnSync } from "node:child_process";

/** Documentation addresses (RFC 5737), so that nothing real is meant. */
export const PUBLIC = "203.0.113.1";
/** A port that the first home's router passes on. */
export const FORWARDED = 4003;

function run(command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
}

const ip = (...args) => run("ip", ...args);
const within = (name, ...command) => ip("netns", "exec", name, ...command);

/** Starts a program on one of the machines. */
export const on = (name) => ["ip", "netns", "exec", name];

/** Why it cannot be made here, if so. */
export function unavailable() {
  if (process.platform !== "linux") return "network namespaces are Linux's";
  if (process.getuid() !== 0) return "only root makes network namespaces";
  const probe = `kw${process.pid}probe`;
  try {
    ip("netns", "add", probe);
    within(probe, "ip", "link", "add", "one", "type", "veth", "peer", "name", "two");
    within(probe, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    within(probe, "nft", rules("cone", 1));
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    spawnSync("ip", ["netns", "del", probe]);
  }
}

/**
 * A router's rules. Of a cone NAT all mappings of a port are the same, so that others may be told of it; a symmetric one
 * makes another for everybody who is called (RFC 4787 calls them endpoint-independent and address-dependent).
 */
const rules = (kind, home) => `
table ip nat {
  chain leaving {
    type nat hook postrouting priority srcnat;
    oifname "wan" masquerade ${kind === "symmetric" ? "fully-random" : ""}
  }
  chain coming {
    type nat hook prerouting priority dstnat;
    iifname "wan" tcp dport ${FORWARDED} dnat to 10.0.${home}.2:${FORWARDED}
  }
}
table ip filter {
  chain through {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct status dnat accept
    iifname "lan" accept
  }
  chain own {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
  }
}`;

/** Makes it. The names of its machines, and how to take it away. */
export function internet(kind) {
  const name = (what) => `kw${process.pid}${kind}-${what}`;
  const made = [];
  const machine = (what) => {
    ip("netns", "add", name(what));
    made.push(name(what));
    within(name(what), "ip", "link", "set", "lo", "up");
    return name(what);
  };
  const remove = () => {
    for (const one of made) ip("netns", "del", one);
  };
  const cable = (one, oneEnd, other, otherEnd) =>
    ip("link", "add", oneEnd, "netns", one, "type", "veth", "peer", "name", otherEnd, "netns", other);
  const up = (where, end, address) => {
    if (address) within(where, "ip", "address", "add", `${address}/24`, "dev", end);
    within(where, "ip", "link", "set", end, "up");
  };
  try {
    const open = machine("public");
    within(open, "ip", "link", "add", "exchange", "type", "bridge");
    up(open, "exchange", PUBLIC);
    const homes = [1, 2].map((home) => {
      const [router, peer] = [machine(`router${home}`), machine(`home${home}`)];
      cable(router, "wan", open, `to${home}`);
      within(open, "ip", "link", "set", `to${home}`, "master", "exchange");
      up(open, `to${home}`);
      up(router, "wan", `203.0.113.${home + 1}`);
      cable(router, "lan", peer, "lan");
      up(router, "lan", `10.0.${home}.1`);
      up(peer, "lan", `10.0.${home}.2`);
      within(peer, "ip", "route", "add", "default", "via", `10.0.${home}.1`);
      within(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
      within(router, "nft", rules(kind, home));
      return peer;
    });
    return { open, homes, remove };
  } catch (error) {
    remove();
    throw error;
  }
}
