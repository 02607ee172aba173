import type { ConsentRecord, Purpose } from "../protocol/types.js";
import { sha256 } from "./sha256.js";

/** CNIL recommends asking again after six months; the node refuses records that run longer than a year. */
const MONTHS = 6;

/** What the visitor agreed to, for the node to keep. The receipt id is random: it says nothing about anybody. */
export async function makeRecord(
  purposes: readonly Purpose[],
  notice: string,
  language: string,
  now: number = Date.now(),
): Promise<ConsentRecord> {
  return {
    receiptId: receiptId(),
    purposes: [...purposes],
    noticeDigest: await sha256(notice),
    language,
    grantedAtMs: now,
    expiresAtMs: sixMonthsAfter(now),
  };
}

/** Calendar months; 31 August ends on the last day of February, not in March. */
export function sixMonthsAfter(now: number): number {
  const end = new Date(now);
  const day = end.getUTCDate();
  end.setUTCDate(1);
  end.setUTCMonth(end.getUTCMonth() + MONTHS);
  const last = new Date(Date.UTC(end.getUTCFullYear(), end.getUTCMonth() + 1, 0)).getUTCDate();
  end.setUTCDate(Math.min(day, last));
  return end.getTime();
}

/** 80 random bits in groups that can be read out: `k7q2-...`. Crockford's alphabet has no letters to mistake. */
function receiptId(): string {
  const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const letters = Array.from(bytes, (byte) => alphabet[byte & 31] ?? "0").join("");
  return letters.replace(/(.{4})(?=.)/g, "$1-");
}
