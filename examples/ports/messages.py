"""The process protocol for Python ports that do not import this project: NumPy is enough.

A port is an object with a method for each request; see docs/porting.md for the messages.
"""

import base64
import json
import os
import sys

import numpy as np


def array(values):
    """A float32 array as base64."""
    values = np.ascontiguousarray(values, "<f4")
    text = base64.b64encode(values.tobytes()).decode("ascii")
    return {"dtype": "float32", "shape": list(values.shape), "base64": text}


def numbers(message):
    """The array of a base64 object."""
    raw = base64.b64decode(message["base64"])
    kind = np.dtype(message["dtype"]).newbyteorder("<")
    return np.frombuffer(raw, kind).reshape(message["shape"])


class States:
    """Values that the suite names by a handle; a state is used once, unless it is copied."""

    def __init__(self):
        self._values, self._count = {}, 0

    def keep(self, value):
        self._count += 1
        self._values[self._count] = value
        return self._count

    def take(self, handle):
        if handle not in self._values:
            raise ValueError(f"state {handle} was already consumed, or is unknown")
        return self._values.pop(handle)

    def release(self, states):
        for handle in states:
            self._values.pop(handle, None)


def answer(port):
    """Answer every request on standard input with the port's method of its name."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to standard error

    def write(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    for line in sys.stdin:
        request = json.loads(line)
        number, method = request.get("id"), request["method"]
        if number is None:  # a notification
            if method == "release":
                port.states.release(**request["params"])
            continue
        try:
            result = getattr(port, method)(**request["params"])
            if method == "stream":
                for chunk in result:
                    write({"id": number, "chunk": array(chunk)})
                result = {}
            write({"id": number, "result": result})
        except Exception as error:
            write({"id": number, "error": {"message": f"{type(error).__name__}: {error}"}})
