/**
 * `kwaainet peer` behind routers: two homes meet through a relay, and directly after that, where their routers allow it.
 * The routers are Linux's own (nftables), in network namespaces; so are the sockets.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { peerThrough, program, until } from "../interop/our-peer.mjs";
import { FORWARDED, internet, on, PUBLIC, unavailable } from "./namespaces.mjs";

const skip = unavailable() ?? false;
if (skip) console.warn(`SKIPPED, peers behind routers: ${skip}`);

/** Longer than any attempt at a direct connection that can work: those that do take less than a second. */
const LONG_ENOUGH = 12_000;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const transports = {
  tcp: { at: (host, port) => `/ip4/${host}/tcp/${port}`, ports: [4101, 4102] },
  quic: { at: (host, port) => `/ip4/${host}/udp/${port}/quic-v1`, ports: [4201, 4202] },
};

for (const [kind, reach] of [
  ["cone", "direct"],
  ["symmetric", "relayed"],
]) {
  describe(`two homes behind ${kind} routers`, { skip, timeout: 110_000, concurrency: true }, () => {
    let net;
    let relay;
    const peers = [];

    const start = async (machine, ...args) => {
      const peer = await peerThrough(on(machine), ...args);
      peers.push(peer);
      return { ...peer, machine };
    };
    const ask = ({ machine, control }) => {
      const args = [...on(machine), program, "peers", "--json", "--control", `${control}`];
      const { stdout, stderr, status } = spawnSync(args[0], args.slice(1), { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout);
    };
    const ping = (machine, address) => {
      const args = [...on(machine), program, "ping", address, "--count", "1"];
      const { stderr, status } = spawnSync(args[0], args.slice(1), { encoding: "utf8" });
      assert.equal(status, 0, stderr);
    };
    const atRelay = (transport) => `${transports[transport].at(PUBLIC, 4001)}/p2p/${relay.peer}`;

    before(async () => {
      net = internet(kind);
      const listen = Object.values(transports).flatMap(({ at }) => ["--listen", at(PUBLIC, 4001)]);
      relay = await start(net.open, "--relay", ...listen);
    });
    after(async () => {
      // The relay last: it is nobody's fault that the others notice when it goes.
      for (const peer of peers.reverse()) await peer.stop();
      net?.remove();
    });

    for (const [transport, { at, ports }] of Object.entries(transports)) {
      test(`over ${transport} the connection is ${reach}`, async () => {
        const listen = (port) => ["--listen", at("0.0.0.0", port), "--bootstrap", atRelay(transport)];
        const called = await start(net.homes[1], ...listen(ports[1]));
        const through = `${atRelay(transport)}/p2p-circuit/p2p/${called.peer}`;
        await until("a place at the relay", () => ask(called).addresses.includes(through));
        const caller = await start(net.homes[0], ...listen(ports[0]), "--bootstrap", through);
        const seen = () => ask(caller).peers.find(({ peer }) => peer === called.peer);
        await until("a connection", seen);
        if (reach === "direct") {
          await until("a direct connection", () => seen().reach === "direct");
          assert.ok(seen().address.startsWith("/ip4/203.0.113.3/"), seen().address);
        } else {
          await wait(LONG_ENOUGH);
          assert.equal(seen().reach, "relayed");
        }
        // Whoever comes anew is served either way.
        ping(net.homes[0], through);
        const own = ask(called).addresses.filter((address) => !address.includes("/p2p-circuit"));
        assert.ok(!own.some((address) => address.includes("203.0.113.")), "what nobody reaches is not said");
      });
    }

    test("a port that the router passes on is found out, and said", { skip: kind !== "cone" }, async () => {
      const { at } = transports.tcp;
      const args = ["--listen", at("0.0.0.0", FORWARDED), "--bootstrap", atRelay("tcp")];
      const peer = await start(net.homes[0], ...args);
      const outside = `${at("203.0.113.2", FORWARDED)}/p2p/${peer.peer}`;
      await until("the address outside", () => ask(peer).addresses.includes(outside));
      ping(net.homes[1], outside);
    });
  });
}
