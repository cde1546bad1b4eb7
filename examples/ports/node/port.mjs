// A port on Node.js: both networks on ONNX Runtime, with a sampler, an inverse STFT and WAV files
// of its own. The model is a bundle: `soprano export --to onnx`.
//
// `node port.mjs BUG` plants one bug: penalty-per-occurrence, crossing-id-dropped,
// symmetric-window, sum-of-windows, truncation, late-states, cache-not-passed.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import ort from "onnxruntime-node";
import { istft, sample, wav } from "./stages.mjs";

const bug = process.argv[2] ?? "";
let networks;

const encode = (values, shape) => ({
  dtype: "float32",
  shape,
  base64: Buffer.from(Float32Array.from(values).buffer).toString("base64"),
});

function decode({ base64 }) {
  const bytes = Buffer.from(base64, "base64");
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

async function open(model, threads) {
  const config = JSON.parse(readFileSync(join(model, "config.json")));
  const options = threads ? { intraOpNumThreads: threads } : {};
  const graph = (name) => ort.InferenceSession.create(join(model, "onnx", `${name}.onnx`), options);
  networks = { config, languageModel: await graph("lm_step"), decoder: await graph("decoder") };
}

function emptyCache() {
  const { num_key_value_heads: heads, head_dim: width, num_hidden_layers: layers } = networks.config;
  const entries = range(0, layers).flatMap((layer) =>
    ["key", "value"].map((kind) => [
      `past_key_values.${layer}.${kind}`,
      new ort.Tensor("float32", new Float32Array(0), [1, heads, 0, width]),
    ]),
  );
  return { length: 0, tensors: Object.fromEntries(entries) };
}

/** Logits (V,) and hidden state (H,) after the last of some ids, and the next cache. */
async function forward(ids, cache) {
  const total = cache.length + ids.length;
  const output = await networks.languageModel.run({
    input_ids: int64(ids),
    attention_mask: int64(range(0, total).fill(1)),
    position_ids: int64(range(cache.length, total)),
    ...cache.tensors,
  });
  const last = ({ data, dims }) => data.slice((ids.length - 1) * dims[2]);
  const present = Object.entries(output).filter(([name]) => name.startsWith("present."));
  const tensors = present.map(([name, value]) => [name.replace("present", "past_key_values"), value]);
  return {
    logits: last(output.logits),
    hidden: last(output.last_hidden_state),
    cache: bug === "cache-not-passed" ? cache : { length: total, tensors: Object.fromEntries(tensors) },
  };
}

/** The spectrum (F, T', 2) of hidden states (T, H), flat, and its shape. */
async function spectrumOf(hidden, tokens) {
  const states = new ort.Tensor("float32", hidden, [1, tokens, hidden.length / tokens]);
  const { spectrum } = await networks.decoder.run({ hidden_states: states });
  return [spectrum.data, spectrum.dims.slice(1)];
}

function concatenated(arrays) {
  const all = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

async function utterance({ ids, options, uniforms, max_new_tokens: limit }) {
  const { config } = networks;
  const [history, states] = [[...ids], []];
  let output = await forward(ids, emptyCache());
  let finish = "length";
  for (let i = 0; i < limit; i++) {
    const id = sample(output.logits, history, options, uniforms[i], bug);
    if (id === config.eos_token_id) {
      finish = "stop";
      break;
    }
    history.push(id);
    // The hidden state of a token is the one that predicted it.
    if (bug !== "late-states") states.push(output.hidden);
    if (bug === "late-states" || i + 1 < limit) output = await forward([id], output.cache);
    if (bug === "late-states") states.push(output.hidden);
  }
  const { n_fft, hop_length, win_length } = { ...published, ...config.soprano_decoder };
  let samples = new Float32Array(0);
  if (states.length) {
    const [spectrum, shape] = await spectrumOf(concatenated(states), states.length);
    samples = istft(spectrum, shape[1], { n_fft, hop_length, win_length }, bug);
  }
  return { ids: history.slice(ids.length), samples: encode(samples, [samples.length]), finish };
}

const published = { n_fft: 2048, hop_length: 512, win_length: 2048 };

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
  async hello({ model, threads }) {
    await open(model, threads);
    const version = JSON.parse(readFileSync(new URL("package.json", import.meta.url))).version;
    return {
      protocol: 1,
      name: "node",
      version,
      capabilities: { batch: true, fork: true, select: true, join: true },
      attest: { device: { value: "cpu", how: "inferred" } },
      methods: Object.keys(methods).filter((name) => !["hello", "release", "cancel"].includes(name)),
    };
  },
  prefill_one: async ({ ids }) => answerOf(await forward(ids, emptyCache())),
  step_one: async ({ id, state }) => answerOf(await forward([id], take(state))),
  copy_state: ({ state }) => ({ state: keep(caches.get(state)) }),
  async decode_one({ hidden }) {
    const [spectrum, shape] = await spectrumOf(decode(hidden), hidden.shape[0]);
    return { spectrum: encode(spectrum, shape) };
  },
  sample: ({ logits, history, options, uniform }) =>
    sample(decode(logits), history, options, uniform, bug),
  istft({ spectrum, config }) {
    const [rows, , frames] = spectrum.shape;
    const all = decode(spectrum);
    const size = all.length / rows;
    const samples = range(0, rows).map((row) =>
      istft(all.subarray(row * size, (row + 1) * size), frames, config, bug),
    );
    return { samples: encode(concatenated(samples), [rows, samples[0].length]) };
  },
  synthesize: utterance,
  wav: ({ samples, sample_rate }) => ({ bytes: [...wav(decode(samples), sample_rate, bug)] }),
  release: ({ states }) => states.forEach((state) => caches.delete(state)),
  cancel() {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  let message;
  try {
    message = { id, result: await methods[method](params) };
  } catch (error) {
    message = { id, error: { message: error.message } };
  }
  if (id !== undefined) process.stdout.write(`${JSON.stringify(message)}\n`);
}
