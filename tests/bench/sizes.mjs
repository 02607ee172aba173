/** What code weighs on its way to a visitor. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

export function brotli(bytes) {
  return brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
}

/** All of these files, each compressed by itself. */
export const brotliOf = (folder, files) =>
  files.reduce((sum, file) => sum + brotli(readFileSync(join(folder, file))), 0);
