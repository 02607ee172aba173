/** Everything that a page or frame has stored, asked in a way that stores nothing itself. */

/** @param {import("playwright-core").Frame | import("playwright-core").Page} frame */
export function buckets(frame) {
  return frame.evaluate(async () => {
    const usage = (await navigator.storage.estimate()).usage ?? 0;
    const opfs = [];
    const walk = async (directory, prefix) => {
      for await (const [name, handle] of directory.entries()) {
        if (handle.kind === "directory") await walk(handle, `${prefix}${name}/`);
        else opfs.push(`${prefix}${name}`);
      }
    };
    await walk(await navigator.storage.getDirectory(), "");
    const locks = await navigator.locks.query();
    return {
      usage,
      opfs: opfs.sort(),
      indexedDb: (await indexedDB.databases()).map(({ name }) => name),
      caches: await caches.keys(),
      localStorage: Object.keys(localStorage),
      sessionStorage: Object.keys(sessionStorage),
      cookies: document.cookie,
      serviceWorkers: (await navigator.serviceWorker.getRegistrations()).map(({ scope }) => scope),
      locks: [...locks.held, ...locks.pending].map(({ name }) => name),
    };
  });
}

/** What `buckets` says where nothing was stored. */
export const nothing = {
  usage: 0,
  opfs: [],
  indexedDb: [],
  caches: [],
  localStorage: [],
  sessionStorage: [],
  cookies: "",
  serviceWorkers: [],
  locks: [],
};
