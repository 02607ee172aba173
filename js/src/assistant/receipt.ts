import { fill, isolate } from "../i18n/locale.js";
import type { Receipt } from "../protocol/types.js";
import { h, ICONS, icon } from "../ui/dom.js";
import type { Voice } from "./words.js";

/** Under each answer: where it ran, what it took, and what left the device. Says what the node says, not what we wish. */
export function receiptView(receipt: Receipt, model: string, { words, format }: Voice): HTMLElement {
  const here = receipt.privacy === "device";
  const sent = Number(receipt.bytesSent);
  const ran = here ? words.ranHere : fill(words.ranOther, { where: isolate(String(receipt.privacy)) });
  const left =
    here && sent === 0 ? words.nothingLeft : fill(words.left, { size: isolate(format.bytes(sent)) });
  const speed = tokensPerSecond(receipt);
  const facts = [
    ran,
    isolate(receipt.backend),
    format.plural(words.tokens, receipt.completionTokens),
    ...(speed === null ? [] : [fill(words.speed, { n: format.number(speed, speed < 100 ? 1 : 0) })]),
    left,
  ];
  const rows: [string, string][] = [
    [words.model, model],
    [
      words.prompt,
      fill(words.reused, {
        tokens: format.plural(words.tokens, receipt.promptTokens),
        n: format.number(receipt.reusedTokens),
      }),
    ],
    [words.first, format.seconds(receipt.prefillMs)],
    [words.seed, String(receipt.seed)],
  ];
  return h(
    "details",
    { class: here && sent === 0 ? "receipt" : "receipt alert" },
    h(
      "summary",
      {},
      icon(here && sent === 0 ? ICONS.shield : ICONS.warn),
      h(
        "span",
        {},
        h("span", { class: "hide" }, `${words.receipt}: `),
        ...facts.map((fact) => h("span", { class: "fact" }, fact)),
      ),
    ),
    h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, isolate(value))])),
  );
}

/** From the first token to the last there are one fewer intervals than tokens. */
function tokensPerSecond({ completionTokens, decodeMs }: Receipt): number | null {
  return completionTokens > 1 && decodeMs > 0 ? ((completionTokens - 1) * 1000) / decodeMs : null;
}
