/** What `kwaainet peer` takes of a machine that nobody calls. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ourPeer } from "../../interop/our-peer.mjs";

/** Resident memory that is not shared with other programs, in bytes, of a peer in each round. */
export async function benchIdle({ rounds, log }) {
  const results = [];
  for (let round = 0; round < rounds; round += 1) {
    const peer = await ourPeer("--relay");
    try {
      await sleep(5000);
      const [, kilobytes] = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${peer.pid}/smaps_rollup`, "utf8"));
      results.push({ memory: kilobytes * 1024 });
      log(`  idle: ${JSON.stringify(results.at(-1))}`);
    } finally {
      await peer.stop();
    }
  }
  return results;
}
