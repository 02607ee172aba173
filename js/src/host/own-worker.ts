/**
 * A worker of our own origin; where the page is of another, only a blob may name it. A classic one: what a module worker
 * imports counts as `worker-src`, which would be one directive more for the site to write.
 */
export function makeWorker(url: string, fromBlob: boolean): Worker {
  const options = { name: "kwaainet" };
  if (!fromBlob) return new Worker(url, options);
  const code = `importScripts(${JSON.stringify(url)});`;
  return new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), options);
}
