// A port as a process: node port.mjs. It needs no package.
//
// `python -m conformance run --backend "exec:node port.mjs" --model v11` judges it.
// Write the methods of a stage and add their names to METHODS; docs/porting.md describes each.

import { createInterface } from "node:readline";

const METHODS = ["prefill_one", "step_one", "decode_one"];

/** An array as the protocol writes it. */
export const array = (values, shape) => ({
  dtype: "float32",
  shape,
  base64: Buffer.from(Float32Array.from(values).buffer).toString("base64"),
});

/** The float32 elements of a message, in C order. */
export function numbers({ base64 }) {
  const bytes = Buffer.from(base64, "base64");
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function missing(name) {
  throw new Error(`${name} is not written yet`);
}

const port = {
  /** Open the model folder; an option that cannot be granted is an error. */
  hello: ({ model, precision, threads, folder }) => ({
    protocol: 1,
    name: "my-port",
    version: "0.1",
    methods: METHODS,
  }),
  /** { logits: array((V,)), hidden: array((H,)), state: any JSON value } */
  prefill_one: ({ ids }) => missing("prefill_one"),
  /** The same after one more id; the state must not be used again. */
  step_one: ({ id, state }) => missing("step_one"),
  /** { spectrum: array((F, T', 2)) } of numbers(hidden), which is (T, H). */
  decode_one: ({ hidden }) => missing("decode_one"),
  /** Forget these states. */
  release: ({ states }) => {},
  /** No more is needed of a stream. */
  cancel: ({ id }) => {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  let message;
  try {
    message = { id, result: await port[method](params) };
  } catch (error) {
    message = { id, error: { message: error.message } };
  }
  if (id !== undefined) process.stdout.write(`${JSON.stringify(message)}\n`);
}
