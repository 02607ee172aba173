/** docs/benchmarks.md has two writers: what `npm run bench:network` writes stands between two marks, at the end. */

const [BEGIN, END] = ["<!-- npm run bench:network -->", "<!-- /npm run bench:network -->"];

/** The network's section of a document, marks included; nothing if it has none. */
function network(document) {
  const [begin, end] = [document.indexOf(BEGIN), document.indexOf(END)];
  return begin < 0 || end < begin ? "" : document.slice(begin, end + END.length);
}

/** The document as it was, with another section of the network. */
export function withNetwork(document, section) {
  const old = network(document);
  return withSection(
    old ? document.replace(old, () => "") : document,
    `${BEGIN}\n\n${section.trim()}\n\n${END}`,
  );
}

/** All of a new document, with the network's section of the old one. */
export function keepingNetwork(document, old) {
  return withSection(document, network(old));
}

const withSection = (document, section) => (section ? `${document.trimEnd()}\n\n${section}\n` : document);
