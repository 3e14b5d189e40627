// Opens artifacts with transformers.js and answers requests about pictures, step by step.
// Each step is timed here, without the time in which the page waits for whoever reads the steps.
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  env,
  InterruptableStoppingCriteria,
  load_image,
  LogitsProcessor,
  LogitsProcessorList,
  StoppingCriteriaList,
  Tensor,
} from '@huggingface/transformers';

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.useBrowserCache = false;
env.useWasmCache = false;
env.backends.onnx.wasm.wasmPaths = new URL('/npm/', location.href).href;

const seconds = (from, to) => (to - from) / 1000;

// What this page may use; null where a browser does not say.
export async function surroundings() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const { vendor, architecture, device, description } = adapter?.info ?? {};
  const named = [vendor, architecture, device, description].filter(Boolean).join(' ');
  return {
    user_agent: navigator.userAgent,
    platform: navigator.userAgentData?.platform || navigator.platform || null,
    cores: navigator.hardwareConcurrency ?? null,
    memory_gib: navigator.deviceMemory ?? null,
    secure_context: isSecureContext,
    cross_origin_isolated: crossOriginIsolated,
    adapter: adapter ? named || 'unnamed' : null,
  };
}

// Bytes that this page uses as the browser counts them; null where it does not say. Threads of
// WebAssembly that wait do not answer a browser that counts, which then gives up after a minute.
export async function heldBytes() {
  const able = crossOriginIsolated && performance.measureUserAgentSpecificMemory;
  if (!able || env.backends.onnx.wasm.numThreads > 1) return null;
  return (await performance.measureUserAgentSpecificMemory()).bytes;
}

// Downloads files of an artifact before they are timed. `files`: path -> bytes.
// `progress(done, all)` counts bytes; `patient(work)` may repeat work that lost the connection.
// Returns a fetch that answers from what was downloaded.
export async function downloaded(base, files, progress = () => {}, patient = (work) => work()) {
  const all = Object.values(files).reduce((sum, bytes) => sum + bytes, 0);
  const blobs = new Map();
  let before = 0;
  for (const path of Object.keys(files)) {
    const url = new URL(base + path, location.href).href;
    const blob = await patient(() => fetched(url, (bytes) => progress(before + bytes, all)));
    blobs.set(url, blob);
    before += blob.size;
  }
  return async (address, init) => {
    const url = new URL(address, location.href).href;
    if (!url.startsWith(new URL(base, location.href).href)) return fetch(address, init);
    const blob = blobs.get(url);
    if (!blob) return new Response(null, { status: 404 });
    return new Response(blob, { headers: { 'content-length': blob.size } });
  };
}

// Where each graph runs. Embeddings of 8 and 4 bits have float16 scales, which some GPUs cannot read.
async function placed(device) {
  const adapter = device === 'webgpu' ? await navigator.gpu?.requestAdapter() : null;
  if (!adapter || adapter.features.has('shader-f16')) return device;
  return { embed_tokens: 'wasm', vision_encoder: device, decoder_model_merged: device };
}

async function fetched(url, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status}`);
  const parts = [];
  let done = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value, done: ended } = await reader.read();
    if (ended) return new Blob(parts);
    parts.push(value);
    progress((done += value.length));
  }
}

// Loads an artifact that the server offers at `${folder}${name}/`. Options: `files` (path -> bytes),
// `device` ("wasm" or "webgpu"), `threads` (for wasm, if the page is isolated; otherwise one) and
// `dtype` (null: the artifact's own).
export async function open(folder, name, options) {
  const { files, device, threads, dtype = null, progress, patient } = options;
  env.backends.onnx.wasm.numThreads = crossOriginIsolated ? threads : 1;
  env.localModelPath = folder;
  const kept = await downloaded(`${folder}${name}/`, files, progress, patient);
  const start = performance.now();
  env.fetch = kept;
  const processor = await AutoProcessor.from_pretrained(name);
  const chosen = { device: await placed(device), ...(dtype === null ? {} : { dtype }) };
  const model = await AutoModelForImageTextToText.from_pretrained(name, chosen);
  env.fetch = (...words) => fetch(...words);
  return new Opened(processor, model, seconds(start, performance.now()));
}

// Lends `session` another `run`, which gets the original; the returned function takes it back.
function lend(session, run) {
  const original = session.run;
  session.run = (...words) => run(() => original.apply(session, words));
  return () => (session.run = original);
}

// Hands logits to `seen` before a token is chosen, and leaves only the forced token, if there is one.
class Chooser extends LogitsProcessor {
  constructor(forced, seen) {
    super();
    Object.assign(this, { forced, seen, step: 0 });
  }
  _call(ids, logits) {
    this.seen(logits.data);
    if (this.forced !== null) {
      const [value, token] = [logits.data.slice(), this.forced[this.step]];
      value.fill(-Infinity);
      value[token] = 0;
      this.step += 1;
      return new Tensor('float32', value, logits.dims);
    }
    return logits;
  }
}

// The time of an answer, which stands still while a step is handed over.
class Watch {
  constructor(handed) {
    Object.assign(this, { handed, mark: performance.now() });
  }
  // Hands over a step that took from `from` to `to`. Time that passed beside it counts to the next.
  async reached(event, to = performance.now(), from = this.mark) {
    const beside = performance.now() - this.mark - (to - from);
    await this.handed({ ...event, seconds: seconds(from, to) });
    this.mark = performance.now() - beside;
  }
}

const base64 = (values) => {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = '';
  for (let n = 0; n < bytes.length; n += 32768) {
    text += String.fromCharCode(...bytes.subarray(n, n + 32768));
  }
  return btoa(text);
};

class Opened {
  constructor(processor, model, load_s) {
    Object.assign(this, { processor, model, load_s });
  }

  // Yields the steps of an answer: {kind, seconds, …}, as runtimes.base.Event has them. The page
  // computes on when the next one is asked for. Request: `question`, `images` (addresses), `ids` (a
  // prompt instead of the question; null), `max_tokens`, `answer` (forced tokens; null) and `arrays`
  // (whether steps have pixels and logits).
  async *answer(request) {
    const stopper = new InterruptableStoppingCriteria();
    const steps = [];
    let [wake, gone, ended, failure] = [() => {}, false, false, null];
    const handed = (event) =>
      gone ? null : new Promise((go) => (steps.push([event, go]), wake()));
    const end = () => ((ended = true), wake());
    const generating = this.#generate(request, stopper, new Watch(handed));
    const finished = generating.catch((error) => (failure = error)).finally(end);
    try {
      for (;;) {
        while (!steps.length && !ended) await new Promise((waked) => (wake = waked));
        if (!steps.length) break;
        yield steps[0][0];
        steps.shift()[1]();
      }
      if (failure) throw failure;
    } finally {
      // An answer that nobody reads on ends after its present step: one cut off would block others.
      gone = true;
      stopper.interrupt();
      for (const [, go] of steps) go();
      await finished;
    }
  }

  async #inputs({ question, images, ids }) {
    if (ids !== null) {
      const row = BigInt64Array.from(ids, BigInt);
      const size = [1, row.length];
      const ones = new BigInt64Array(row.length).fill(1n);
      return {
        input_ids: new Tensor('int64', row, size),
        attention_mask: new Tensor('int64', ones, size),
      };
    }
    const content = [...images.map(() => ({ type: 'image' })), { type: 'text', text: question }];
    const messages = [{ role: 'user', content }];
    const text = this.processor.apply_chat_template(messages, { add_generation_prompt: true });
    const pictures = await Promise.all(images.map((address) => load_image(address)));
    const options = { add_special_tokens: false };
    return this.processor(text, pictures.length ? pictures : null, options);
  }

  async #generate(request, stopper, watch) {
    const { max_tokens, answer, arrays } = request;
    const inputs = await this.#inputs(request);
    const { input_ids, pixel_values } = inputs;
    const ids = Array.from(input_ids.data, Number);
    const pixels = arrays && pixel_values ? base64(pixel_values.data) : null;
    await watch.reached({ kind: 'prepare', positions: ids.length, ids, pixels });

    let [logits, token, prefilled, asked] = [null, null, false, false];
    const images = ids.filter((id) => id === this.#imageToken).length;
    const tiles = pixel_values?.dims.length === 5 ? pixel_values.dims[1] : request.images.length;
    const encode = async (run) => {
      const start = performance.now();
      const output = await run();
      const done = performance.now();
      await watch.reached({ kind: 'image', positions: images, tiles }, done, start);
      return output;
    };
    const hand = async () => {
      const { at, ...event } = token;
      token = null;
      await watch.reached(event, at);
    };
    const decode = async (run) => {
      if (token) await hand();
      const output = await run();
      if (!prefilled) await watch.reached({ kind: 'prefill', positions: ids.length });
      prefilled = true;
      return output;
    };
    const streamer = {
      put: ([[id]]) => {
        // The first call has the prompt.
        if (asked) token = { kind: 'token', token: Number(id), logits, at: performance.now() };
        asked = true;
      },
      end: () => {},
    };
    const { vision_encoder, decoder_model_merged: decoder } = this.model.sessions;
    const returned = [lend(vision_encoder, encode), lend(decoder, decode)];
    const choosing = new LogitsProcessorList();
    choosing.push(new Chooser(answer, (values) => (logits = arrays ? base64(values) : null)));
    const stopping = new StoppingCriteriaList();
    stopping.push(stopper);
    try {
      await this.model.generate({
        ...inputs,
        max_new_tokens: answer?.length ?? max_tokens,
        do_sample: false,
        ...(answer === null ? {} : { eos_token_id: null }),
        logits_processor: choosing,
        stopping_criteria: stopping,
        streamer,
      });
      if (token) await hand();
    } finally {
      returned.forEach((give) => give());
    }
  }

  get #imageToken() {
    const { image_token_id, image_token_index } = this.model.config;
    return image_token_id ?? image_token_index;
  }

  dispose() {
    return this.model.dispose();
  }
}
