// Results: a name, what was measured, what is demanded, whether it holds.

const rows = [];

export function record(name, measured, demanded, holds) {
  rows.push({ name, measured, demanded, holds });
  console.log(`${holds ? "ok  " : "FAIL"}  ${name.padEnd(44)} ${measured.padEnd(34)} (${demanded})`);
}

export function skip(what, why) {
  rows.push({ name: what, skipped: true });
  console.log(`SKIPPED: ${what}: ${why}`);
}

/** Prints the summary; the process's exit code. */
export function summary() {
  const failed = rows.filter((row) => !row.skipped && !row.holds);
  const skipped = rows.filter((row) => row.skipped);
  console.log(
    `\n${rows.length - skipped.length - failed.length} hold, ${failed.length} fail, ${skipped.length} skipped`,
  );
  for (const row of failed) console.log(`FAIL  ${row.name}: ${row.measured}, demanded: ${row.demanded}`);
  for (const row of skipped) console.log(`SKIPPED: ${row.name}`);
  return failed.length === 0 ? 0 : 1;
}

export function cosine(a, b) {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i += 1) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb);
}

export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i += 1) if (values[i] > values[best]) best = i;
  return best;
}

export const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
