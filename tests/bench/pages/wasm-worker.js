/** Holds an engine of tests/bench/wasm. The model is kept on the device, and read from there. */
let engine = null;
let model = null;

async function open(name) {
  const folder = await navigator.storage.getDirectory();
  const file = await (await folder.getFileHandle(name, { create: true })).createSyncAccessHandle();
  if (file.getSize() > 0) return file;
  const { body } = await fetch(`/models/${name}`);
  let at = 0;
  for await (const chunk of body) at += file.write(chunk, { at });
  file.flush();
  return file;
}

async function load({ load: name, engine: which }) {
  const [glue, file] = await Promise.all([import(`/built/${which}/kwaainet.js`), open(name)]);
  engine = await glue.default({ module_or_path: `/built/${which}/kwaainet_bg.wasm` });
  model = new glue.Model((at, into) => file.read(into, { at }), file.getSize());
  file.close();
}

function complete({ tokens, count }) {
  let token = model.prefill(new Uint32Array(tokens));
  postMessage({ token });
  for (let made = 1; made < count; made += 1) {
    token = model.decode(token);
    postMessage({ token });
  }
}

/** wasm has no message for an allocation that failed: it stops. */
function said(error) {
  const stopped = error instanceof WebAssembly.RuntimeError && /unreachable/.test(error.message);
  const tooMuch = stopped || /memory allocation|capacity overflow|out of memory/i.test(error.message);
  if (!tooMuch) return String(error);
  return `out of memory: it has ${((engine?.memory.buffer.byteLength ?? 0) / 1e6).toFixed(0)} MB`;
}

self.onmessage = async ({ data }) => {
  try {
    await ("load" in data ? load(data) : complete(data));
    postMessage({ result: true });
  } catch (error) {
    postMessage({ error: said(error) });
  }
};
