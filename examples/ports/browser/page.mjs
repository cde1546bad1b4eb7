// The port, in a web page: both networks of a community export on onnxruntime-web (WebAssembly),
// and the sampler of the example on Node.js.

import * as ort from "/ort/ort.wasm.min.mjs";
import { sample } from "/stages.mjs";

ort.env.wasm.wasmPaths = "/ort/";
ort.env.wasm.numThreads = 1;
const bug = new URLSearchParams(location.search).get("bug");
let networks;

function encode(values, shape) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return { dtype: "float32", shape, base64: btoa(text) };
}

const decode = ({ base64 }) =>
  new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

async function open() {
  const config = await (await fetch("/model/config.json")).json();
  const graph = (name) => ort.InferenceSession.create(`/model/onnx/soprano_${name}_fp32.onnx`);
  networks = { config, languageModel: await graph("backbone_kv"), decoder: await graph("decoder") };
}

function emptyCache() {
  const { num_key_value_heads: heads, head_dim: width } = networks.config;
  const names = networks.languageModel.inputNames.filter((name) => name.startsWith("past"));
  const empty = (name) => [name, new ort.Tensor("float32", new Float32Array(0), [1, heads, 0, width])];
  return { length: 0, tensors: Object.fromEntries(names.map(empty)) };
}

async function forward(ids, cache) {
  const size = networks.config.vocab_size;
  if (ids.some((id) => id < 0 || id >= size)) throw new Error(`ids must be below ${size}: ${ids}`);
  const total = cache.length + ids.length;
  const first = bug === "positions-from-zero" ? 0 : cache.length;
  const output = await networks.languageModel.run({
    input_ids: int64(ids),
    attention_mask: int64(range(0, total).fill(1)),
    position_ids: int64(range(first, first + ids.length)),
    ...cache.tensors,
  });
  const last = ({ data, dims }) => data.slice((dims[1] - 1) * dims[2]);
  const present = Object.entries(output).filter(([name]) => name.startsWith("present."));
  const tensors = present.map(([name, value]) => [name.replace("present", "past_key_values"), value]);
  return {
    logits: last(output.logits),
    hidden: last(output.last_hidden_state),
    cache: { length: total, tensors: Object.fromEntries(tensors) },
  };
}

/** Samples (N,) of hidden states (T, H): the decoder takes (1, H, T). */
async function audioOf(hidden, [tokens, width]) {
  const turned = new Float32Array(hidden.length);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < width; h++) turned[h * tokens + t] = hidden[t * width + h];
  }
  const states = bug === "states-not-transposed" ? hidden : turned;
  const input = new ort.Tensor("float32", states, [1, width, tokens]);
  return (await networks.decoder.run({ hidden_states: input })).audio.data;
}

// Keeps the caches that the suite names by numbers. A cache is used once, unless it is copied.
const caches = new Map();
let count = 0;
const keep = (cache) => (caches.set(++count, cache), count);
function take(state) {
  const cache = caches.get(state);
  if (!cache) throw new Error(`state ${state} was already consumed, or is unknown`);
  caches.delete(state);
  return cache;
}
const answerOf = ({ logits, hidden, cache }) => ({
  logits: encode(logits, [logits.length]),
  hidden: encode(hidden, [hidden.length]),
  state: keep(cache),
});

const methods = {
  async hello() {
    await open();
    const attested = (value, how) => ({ value, how });
    return {
      protocol: 1,
      name: "browser",
      version: ort.env.versions.web,
      capabilities: { batch: true, fork: true, select: true, join: true },
      attest: {
        device: attested("wasm", "inferred"),
        threads: attested("1", "inferred"),
        version: attested(navigator.userAgent, "read back"),
      },
      methods: ["prefill_one", "step_one", "copy_state", "decode_audio_one", "sample"],
    };
  },
  prefill_one: async ({ ids }) => answerOf(await forward(ids, emptyCache())),
  step_one: async ({ id, state }) => answerOf(await forward([id], take(state))),
  copy_state: ({ state }) => ({ state: keep(caches.get(state)) }),
  async decode_audio_one({ hidden }) {
    const samples = await audioOf(decode(hidden), hidden.shape);
    return { samples: encode(samples, [samples.length]) };
  },
  sample: ({ logits, history, options, uniform }) =>
    sample(decode(logits), history, options, uniform, bug),
  release: ({ states }) => states.forEach((state) => caches.delete(state)),
};

for (;;) {
  const { id, method, params } = await (await fetch("/next")).json();
  let message;
  try {
    message = { id, result: await methods[method](params) };
  } catch (error) {
    message = { id, error: { message: error.message ?? String(error) } };
  }
  if (id !== undefined) await fetch("/answer", { method: "POST", body: JSON.stringify(message) });
}
