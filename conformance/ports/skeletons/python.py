"""A port as a process: python port.py. It needs NumPy only.

`python -m conformance run --backend "exec:python port.py" --model v11` judges it.
Write the methods of a stage and add their names to METHODS; docs/porting.md describes each.
"""

import base64
import json
import os
import sys

import numpy as np

METHODS = ["prefill_one", "step_one", "decode_one"]


def array(values):
    """An array as the protocol writes it."""
    values = np.ascontiguousarray(values, "<f4")
    text = base64.b64encode(values.tobytes()).decode("ascii")
    return {"dtype": "float32", "shape": list(values.shape), "base64": text}


def numbers(message):
    """The array of a message."""
    kind = np.dtype(message["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(message["base64"]), kind).reshape(message["shape"])


class Port:
    def hello(self, protocol, model, precision, threads, folder):
        """Open the model folder; an option that cannot be granted is an error."""
        return {"protocol": 1, "name": "my-port", "version": "0.1", "methods": METHODS}

    def prefill_one(self, ids):
        """{"logits": array((V,)), "hidden": array((H,)), "state": any JSON value}"""
        raise NotImplementedError("prefill_one is not written yet")

    def step_one(self, id, state):
        """The same after one more id; the state must not be used again."""
        raise NotImplementedError("step_one is not written yet")

    def decode_one(self, hidden):
        """{"spectrum": array((F, T', 2))} of numbers(hidden), which is (T, H)."""
        raise NotImplementedError("decode_one is not written yet")

    def release(self, states):
        """Forget these states."""

    def cancel(self, id):
        """No more is needed of a stream."""


def main():
    port, answers = Port(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            message = {"result": getattr(port, request["method"])(**request["params"])}
        except Exception as error:
            message = {"error": {"message": f"{type(error).__name__}: {error}"}}
        if "id" in request:
            answers.write(json.dumps({"id": request["id"], **message}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
