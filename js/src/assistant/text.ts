/**
 * Draws what a model wrote. It is untrusted: it becomes text nodes and a handful of elements without attributes.
 * No HTML, no links, no pictures; only paragraphs, fenced code, `code` and **strong**, because models write them.
 */
import { h, put } from "../ui/dom.js";

export interface Block {
  readonly code: boolean;
  readonly text: string;
}

/** Paragraphs and fenced code (CommonMark 0.31, 4.5); a fence that is still open is code already. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let lines: string[] = [];
  let fence: string | null = null;
  const flush = (code: boolean) => {
    const joined = lines.join("\n");
    lines = [];
    if (code || joined.trim() !== "") {
      blocks.push({ code, text: code ? joined : joined.trim() });
    }
  };
  for (const line of text.split("\n")) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence === null && mark !== undefined) {
      flush(false);
      fence = mark;
    } else if (fence !== null && mark?.startsWith(fence) === true) {
      flush(true);
      fence = null;
    } else if (fence === null && line.trim() === "") {
      flush(false);
    } else {
      lines.push(line);
    }
  }
  if (fence !== null || lines.length > 0) {
    flush(fence !== null);
  }
  return blocks;
}

/** Brings an element up to date; blocks that did not change are left alone, so that a long answer stays cheap. */
export class TextView {
  readonly element = h("div", { class: "text" });
  #drawn: Block[] = [];

  show(text: string): void {
    const blocks = blocksOf(text);
    blocks.forEach((block, index) => {
      const before = this.#drawn[index];
      if (before?.code === block.code && before.text === block.text) {
        return;
      }
      const node = block.code ? codeBlock(block.text) : paragraph(block.text);
      const old = this.element.children[index];
      if (old === undefined) {
        this.element.append(node);
      } else {
        old.replaceWith(node);
      }
    });
    while (this.element.children.length > blocks.length) {
      this.element.lastElementChild?.remove();
    }
    this.#drawn = blocks;
  }
}

// Wide code scrolls, and what scrolls must be reachable by keyboard.
function codeBlock(text: string): HTMLElement {
  return h("pre", { dir: "ltr", tabindex: 0 }, h("code", {}, text));
}

function paragraph(text: string): HTMLElement {
  const element = h("p", { dir: "auto" });
  const parts = text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/);
  put(
    element,
    ...parts.map((part, index) => {
      if (index % 2 === 0) {
        return part;
      }
      return part.startsWith("`") ? h("code", {}, part.slice(1, -1)) : h("strong", {}, part.slice(2, -2));
    }),
  );
  return element;
}
