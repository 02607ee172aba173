// Writes sdk-core/engine/src/tokenizer/unicode_table.rs from the Unicode Character Database.
//
// Version 15.1 on purpose: it is what llama.cpp's own tables hold. A newer version turns code points
// that no trained tokenizer has seen into letters, and then token ids differ.
//
//   npm install --no-save @unicode/unicode-15.1.0 && node unicode-classes.mjs
import { writeFileSync } from "node:fs";

const VERSION = "15.1.0";
const CLASSES = { Letter: 1, Number: 2, Mark: 3, Punctuation: 4, Symbol: 5 };

const classOf = new Uint8Array(0x110000);
for (const [category, code] of Object.entries(CLASSES)) {
  const path = `@unicode/unicode-${VERSION}/General_Category/${category}/code-points.mjs`;
  for (const codePoint of (await import(path)).default) classOf[codePoint] = code;
}

const borders = [];
let previous = 0;
for (let codePoint = 0; codePoint < classOf.length; codePoint += 1) {
  if (classOf[codePoint] === previous) continue;
  previous = classOf[codePoint];
  borders.push(`0x${((codePoint << 3) | previous).toString(16)}`);
}

const lines = [];
let line = "   ";
for (const border of borders) {
  if (line.length + border.length + 2 > 109) {
    lines.push(line);
    line = "   ";
  }
  line += ` ${border},`;
}
lines.push(line);

const target = new URL("../../sdk-core/engine/src/tokenizer/unicode_table.rs", import.meta.url);
writeFileSync(
  target,
  `//! Unicode ${VERSION} general categories, written by tests/oracle/unicode-classes.mjs. Do not edit.

/// Where the class changes: \`first code point << 3 | class\`, ascending. Before the first entry: other.
#[rustfmt::skip]
pub(super) static BORDERS: [u32; ${borders.length}] = [
${lines.join("\n")}
];
`,
);
console.log(`${borders.length} borders written`);
