/** Entry of `sovereign-ai.js`: one tag, one instance. */
import { KwaaiNet, KwaaiNetError, type KwaaiNetOptions } from "../public/index.js";
import { baseOf, readAttributes } from "./attributes.js";

declare global {
  interface Window {
    /** The class, for pages that want an instance of their own. */
    KwaaiNet?: typeof KwaaiNet;
    /** The instance of the tag. */
    kwaainet?: KwaaiNet;
  }
}

// Only while the script runs is it the current one.
const script = document.currentScript;
if (window.KwaaiNet !== undefined) {
  console.warn("KwaaiNet: the script is on this page more than once; the first one counts.");
} else if (script instanceof HTMLScriptElement) start(script);

function start(tag: HTMLScriptElement): void {
  const base = baseOf(tag.src);
  const { options, manual, problems } = readAttributes(tag.dataset, base);
  for (const problem of problems) console.warn(`KwaaiNet: ${problem}.`);
  // The page's own instances find our files where the tag found them.
  window.KwaaiNet = class extends KwaaiNet {
    constructor(own: KwaaiNetOptions = {}) {
      super({ ...(options.base === undefined ? {} : { base: options.base }), ...own });
    }
  };
  if (manual) return;
  const instance = new window.KwaaiNet(options);
  window.kwaainet = instance;
  const begin = async () => {
    await instance.initialize();
    // A site that shows our assistant introduces it at once; any other one asks when it needs to.
    if (options.assistant === true && instance.consent.status().purposes.length === 0)
      await instance.consent.ask();
  };
  begin().catch((error: unknown) => {
    console.error(`KwaaiNet: ${error instanceof KwaaiNetError ? error.message : String(error)}`);
  });
}
