"""Runs a Python port as a process: `python -m conformance.ports.server package:factory`.

Other languages do the same: read a line, call the function, write a line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from conformance.ports import wire
from conformance.ports.client import STAGES
from soprano.backends import Backend, open_backend
from soprano.config import IstftConfig, SamplingOptions

NETWORK = ("prefill", "step", "decode", "fork", "select", "join")


class Server:
    """Answers the requests of the process protocol with a backend."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._backend: Backend
        self._states: dict[int, Any] = {}
        self._handles = count(1)
        self._tokenizers: dict[str, Any] = {}

    def answer(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The messages that answer one request; a notification has none."""
        method, params = message.get("method", ""), message.get("params", {})
        number = message.get("id")
        handler = getattr(self, f"on_{method}", None)
        try:
            if handler is None:
                raise ValueError(f"unknown method {method!r}")
            if method == "stream":
                for chunk in handler(**params):
                    yield {"id": number, "chunk": wire.encode(chunk)}
                result = {}
            else:
                result = wire.encode(handler(**params))
        except Exception as error:  # whatever a port raises is an answer
            yield {"id": number, "error": {"message": f"{type(error).__name__}: {error}"}}
        else:
            if number is not None:
                yield {"id": number, "result": result}

    def on_hello(
        self, protocol: int, model: str, precision: str, threads: int | None, folder: str
    ) -> dict[str, Any]:
        self._backend = open_backend(self._name, model, precision, threads)
        stages = [name for name in STAGES if hasattr(self._backend, name)]
        stages += ["verify", "truncate"] * self._backend.capabilities.verify
        return {
            "protocol": wire.VERSION,
            "name": self._backend.name,
            "capabilities": asdict(self._backend.capabilities) | {"threads": False},
            "attest": {name: asdict(field) for name, field in self._backend.attest().items()},
            "methods": [*(name for name in NETWORK if hasattr(self._backend, name)), *stages],
        }

    def on_release(self, states: list[int]) -> None:
        for handle in states:
            self._states.pop(handle, None)

    def on_cancel(self, id: int) -> None:
        """Streams are complete before the next request is read."""

    def on_prefill(self, ids: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        return self._output(self._backend.prefill(_ints(ids), _ints(lengths)))

    def on_step(self, ids: list[int], state: int) -> dict[str, Any]:
        return self._output(self._backend.step(_ints(ids), self._states[state]))

    def on_verify(self, ids: list[list[int]], lengths: list[int], state: int) -> dict[str, Any]:
        return self._output(self._own("verify")(_ints(ids), _ints(lengths), self._states[state]))

    def on_truncate(self, state: int, lengths: list[int]) -> dict[str, Any]:
        return self._state(self._own("truncate")(self._states[state], _ints(lengths)))

    def on_decode(self, hidden: Any, lengths: list[int]) -> dict[str, Any]:
        return {"spectrum": self._backend.decode(_floats(hidden), _ints(lengths))}

    def on_fork(self, state: int) -> dict[str, Any]:
        return self._state(self._backend.fork(self._states[state]))

    def on_select(self, state: int, rows: list[int]) -> dict[str, Any]:
        return self._state(self._backend.select(self._states[state], rows))

    def on_join(self, first: int, second: int) -> dict[str, Any]:
        return self._state(self._backend.join(self._states[first], self._states[second]))

    def _output(self, output: Any) -> dict[str, Any]:
        arrays = {"logits": output.logits, "hidden": output.hidden}
        return arrays | self._state(output.state)

    def _state(self, state: Any) -> dict[str, Any]:
        # A consumed state keeps its handle until it is released: its use is the port's to reject.
        handle = next(self._handles)
        self._states[handle] = state
        return {"state": handle}

    def on_normalize(self, text: str) -> str:
        return self._own("normalize")(text)

    def on_split(self, text: str) -> list[str]:
        return self._own("split")(text)

    def on_tokenize(self, model: str, sentence: str) -> list[int]:
        if model not in self._tokenizers:
            self._tokenizers[model] = self._own("tokenize")(Path(model))
        return self._tokenizers[model].prompt(sentence)

    def on_sample(
        self, logits: Any, history: list[int], options: dict[str, Any], uniform: float | None
    ) -> int:
        return int(
            self._own("sample")(_floats(logits), history, SamplingOptions(**options), uniform)
        )

    def on_istft(
        self, spectrum: Any, config: dict[str, Any], layout: str, length: int | None
    ) -> dict[str, Any]:
        own, values = self._own("istft"), wire.decode_array(spectrum, "spectrum")
        options = {} if length is None else {"length": length}
        return {"samples": own(values, IstftConfig(**config), layout, **options)}

    def on_is_stuck(self, hidden: Any, distance: float) -> bool:
        return bool(self._own("is_stuck")(_floats(hidden), distance))

    def on_decode_audio(self, hidden: Any, lengths: list[int]) -> dict[str, Any]:
        return {"samples": self._own("decode_audio")(_floats(hidden), _ints(lengths))}

    def on_synthesize(self, options: dict[str, Any], **params: Any) -> dict[str, Any]:
        return _utterance(
            self._own("synthesize")(
                params["ids"],
                SamplingOptions(**options),
                params["uniforms"],
                params["max_new_tokens"],
            )
        )

    def on_synthesize_batch(self, options: dict[str, Any], **params: Any) -> list[Any]:
        results = self._own("synthesize_batch")(
            params["ids"], SamplingOptions(**options), params["uniforms"], params["max_new_tokens"]
        )
        return [_utterance(result) for result in results]

    def on_stream(self, options: dict[str, Any], **params: Any) -> Iterator[Any]:
        yield from self._own("stream")(
            params["ids"],
            SamplingOptions(**options),
            params["uniforms"],
            params["max_new_tokens"],
            params["chunk_size"],
        )

    def on_wav(self, samples: Any, sample_rate: int) -> dict[str, Any]:
        data = self._own("wav")(_floats(samples), sample_rate)
        return {"bytes": wire.encode_array(np.frombuffer(data, np.uint8))}

    def on_default_options(self) -> dict[str, Any]:
        return asdict(self._own("default_options")())

    def on_loaded_weights(self) -> dict[str, Any]:
        weights: dict[str, Any] = self._own("loaded_weights")()
        return weights

    def _own(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._backend, name)
        return method


def _utterance(result: Any) -> dict[str, Any]:
    return {"ids": list(result.ids), "samples": result.samples, "finish": result.finish}


def _ints(values: Any) -> Any:
    return np.asarray(values, np.int64)


def _floats(values: Any) -> Any:
    return wire.decode_array(values, "argument")


def serve(server: Server, source: BinaryIO, target: BinaryIO) -> None:
    """Answer every line of the source until it ends."""
    import json

    for line in source:
        for message in server.answer(wire.parse(line)):
            target.write(json.dumps(message).encode() + b"\n")
            target.flush()


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a port prints is a diagnostic
    sys.path.insert(0, os.getcwd())
    serve(Server(sys.argv[1]), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
