"""ONNX Runtime on the CPU: the graphs of a community export, one utterance at a time.

They differ in what they take (with or without an attention mask and positions, in half precision)
and in the order of their outputs, which are found by their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from soprano.backends.base import PortBackend
from soprano.backends.onnx_session import attest_session, open_session
from soprano.backends.protocol import Attestation, Attested, Capabilities, Float32, Int64
from soprano.checkpoint.community import CommunityGraph
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError, ModelError
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.source import graph_source

Arrays = list[npt.NDArray[Any]]

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_HIDDEN = "last_hidden_state"


class CommunityOnnxBackend(PortBackend):
    """A language model that also returns hidden states, and a decoder that gives audio."""

    name = "onnx_cpu"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        pairs = folder.community_graphs.pairs if folder.community_graphs else {}
        if precision not in pairs:
            raise BackendError(
                f"onnx_cpu: precision {precision!r} was requested, the model offers "
                f"{' and '.join(map(repr, pairs))}"
            )
        chosen = pairs[precision]
        activations = "int8" if any(graph.activations == "int8" for graph in chosen) else "float32"
        self.capabilities = Capabilities(precision, activations)
        self._graphs = chosen
        sessions = [open_session(graph_source(graph.path), threads) for graph in chosen]
        self._language_model, self._decoder = sessions
        self._types = {
            value.name: _TYPES.get(value.type)
            for session in sessions
            for value in session.get_inputs()
        }
        model = folder.config.language_model
        self._cache_names = cache_names(model.num_hidden_layers)
        self._cache_shape = (1, model.num_key_value_heads, 0, model.head_dim)
        self._outputs = [value.name for value in self._language_model.get_outputs()]
        self._require_names()
        self._by_token = _tokens_first(self._decoder, chosen[1], model.hidden_size)
        super().__init__(folder, precision=precision, threads=threads)

    def _require_names(self) -> None:
        """An error that names the input or output by which the graphs are of another form."""
        past, present = (set(names) for names in zip(*self._cache_names, strict=True))
        inputs = {value.name for value in self._language_model.get_inputs()}
        known = {"input_ids", "attention_mask", "position_ids", *past}
        path = self._graphs[0].path
        for kind, names in (
            ("has no input", past - inputs),
            ("has an unknown input", inputs - known),
            ("has no output", {"logits", _HIDDEN, *present} - set(self._outputs)),
            ("has an input of an unknown type", {n for n in inputs if self._types[n] is None}),
        ):
            if names:
                raise ModelError(f"{path} {kind} {sorted(names)[0]}")

    @property
    def files(self) -> list[Path]:
        """The graphs and their external data."""
        return [path for graph in self._graphs for path in graph.files]

    def prefill_one(self, ids: Int64) -> tuple[Float32, Float32, Arrays]:
        kinds = (self._types[name] for name, _ in self._cache_names)
        return self._run(ids, [np.zeros(self._cache_shape, kind) for kind in kinds])

    def step_one(self, new_id: int, cache: Arrays) -> tuple[Float32, Float32, Arrays]:
        return self._run(np.array([new_id]), cache)

    def _run(self, ids: Int64, cache: Arrays) -> tuple[Float32, Float32, Arrays]:
        past = cache[0].shape[2]
        total = past + len(ids)
        values = {
            "input_ids": ids,
            "attention_mask": np.ones(total, np.int64),
            "position_ids": np.arange(past, total),
        }
        inputs = {
            name: value[None].astype(self._types[name])
            for name, value in values.items()
            if name in self._types
        }
        inputs |= {name: array for (name, _), array in zip(self._cache_names, cache, strict=True)}
        outputs = dict(zip(self._outputs, self._language_model.run(None, inputs), strict=True))
        logits, hidden = (
            outputs[name].reshape(-1, outputs[name].shape[-1])[-1].astype(np.float32)
            for name in ("logits", _HIDDEN)
        )
        return logits, hidden, [outputs[name] for _, name in self._cache_names]

    def copy_cache(self, cache: Arrays) -> Arrays:
        return list(cache)  # no call writes into an array

    def decode_audio_one(self, hidden: Float32) -> Float32:
        name = self._decoder.get_inputs()[0].name
        value = hidden if self._by_token else hidden.T
        given = np.ascontiguousarray(value[None], self._types[name])
        samples = self._decoder.run(None, {name: given})[0]
        if samples.size and max(samples.shape) != samples.size:
            path = self._graphs[1].path
            raise BackendError(f"{path} must give the samples of one row, got {samples.shape}")
        return np.asarray(samples.reshape(-1), np.float32)

    def attest(self) -> Attestation:
        attested = attest_session(self._language_model, "a community export")
        kind = self.capabilities.precision
        return attested | {"weights": Attested(kind, "inferred")} if kind != "fp32" else attested


def _tokens_first(session: ort.InferenceSession, graph: CommunityGraph, size: int) -> bool:
    """Whether a decoder takes (1, T, H), as its input's sizes tell, and not (1, H, T)."""
    value, output = session.get_inputs()[0], session.get_outputs()[0]
    if value.type not in _TYPES:
        raise ModelError(f"{graph.path} has an input of an unknown type {value.type}")
    wide = [width for width in output.shape if isinstance(width, int) and width > 1]
    if wide and len(output.shape) > 2:
        raise ModelError(
            f"{graph.path} must give audio, its output {output.name} has {wide[0]} rows"
        )
    _, first, second = value.shape
    return bool(second == size and first != size)
