"""ONNX Runtime on the CPU, on fused operators and a cache that is written in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from soprano.backends import Attestation, Backend, Capabilities, Float32, Int64
from soprano.backends.base import require_precision
from soprano.backends.onnx_session import attest, attest_products, open_sessions, spectrum
from soprano.backends.onnx_standard import StandardOnnxBackend
from soprano.backends.static_cache import InPlaceCacheBackend, Source
from soprano.checkpoint.folder import ModelFolder
from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names, padded_head
from soprano.onnx_graphs.source import (
    DECODER,
    FUSED_LANGUAGE_MODEL,
    LANGUAGE_MODEL,
    find_graph,
    require,
)


def open_onnx(
    folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """The fastest form of a model folder that ONNX Runtime can run.

    A bundle that has a standard language model and nothing to fuse it from runs as it is.
    """
    fused, standard = (find_graph(folder, part) for part in (FUSED_LANGUAGE_MODEL, LANGUAGE_MODEL))
    kind = OnnxBackend if fused or not standard else StandardOnnxBackend
    return kind(folder, precision=precision, threads=threads)


class OnnxBackend(InPlaceCacheBackend):
    """The fused language model and the decoder of a bundle or of a checkpoint."""

    name = "onnx_cpu"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        self.config = folder.config
        self.capabilities = Capabilities(precision, folder.activations("onnx"))
        parts = {LANGUAGE_MODEL: FUSED_LANGUAGE_MODEL, DECODER: DECODER}
        graphs = {part: find_graph(folder, file) for part, file in parts.items()}
        self._sessions = open_sessions(graphs, threads)
        self._quantised = list(graphs.values()) if folder.quantised else []
        self._rotations = rotations(self.config.language_model, 0)

    def attest(self) -> Attestation:
        attested = attest(next(iter(self._sessions.values())), "fused operators")
        return attested | attest_products(self._quantised) if self._quantised else attested

    def _run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: _Buffers
    ) -> tuple[Float32, Float32]:
        total = int(lengths.max())
        if total > len(self._rotations[0]):
            self._rotations = rotations(self.config.language_model, 2 * total)
        return cache.run(ids, last, lengths, self._rotations)

    def _spectrum(self, hidden: Float32) -> Float32:
        return spectrum(require(self._sessions.get(DECODER), DECODER), hidden)

    def _gather(
        self, sources: Sequence[Source], columns: int, capacity: int, batch: int
    ) -> _Buffers:
        session = require(self._sessions.get(LANGUAGE_MODEL), LANGUAGE_MODEL)
        model = self.config.language_model
        shape = (batch, model.num_key_value_heads, capacity, padded_head(model))
        buffers = [np.zeros(shape, np.float32) for _ in range(2 * model.num_hidden_layers)]
        first = 0
        for source in sources:
            there = slice(first, first + len(source.rows))
            for new, old in zip(buffers, source.cache.arrays, strict=True):
                kept = min(columns, old.shape[2])
                new[there, :, :kept] = old[source.rows, :, :kept]
            first += len(source.rows)
        return _Buffers(session, buffers, model)


class _Buffers:
    """Keys and values layer by layer, each (B, KV heads, capacity, D), bound both ways.

    Whatever a step is given and gives lies where it lay at the step before, so that nothing but
    values changes hands.
    """

    def __init__(
        self, session: ort.InferenceSession, arrays: list[Float32], model: LanguageModelConfig
    ) -> None:
        self.arrays = arrays
        self._session, self._binding = session, session.io_binding()
        self._inputs: dict[str, npt.NDArray[Any]] = {}
        batch = len(arrays[0])
        self._logits = np.empty((batch, model.vocab_size), np.float32)
        self._hidden = np.empty((batch, model.hidden_size), np.float32)
        for (past, present), array in zip(cache_names(len(arrays) // 2), arrays, strict=True):
            _bind(self._binding.bind_input, past, array)
            _bind(self._binding.bind_output, present, array)
        _bind(self._binding.bind_output, "logits", self._logits)
        _bind(self._binding.bind_output, "last_hidden_state", self._hidden)

    def run(
        self, ids: Int64, last: Int64, lengths: Int64, rotations: tuple[Float32, Float32]
    ) -> tuple[Float32, Float32]:
        self._write("input_ids", ids)
        self._write("last_columns", last[:, None, None])
        self._write("row_lengths", (lengths - 1).astype(np.int32))
        self._write("total_length", np.array(lengths.max(), np.int32))
        for name, values in zip(("cos", "sin"), rotations, strict=True):
            if self._inputs.get(name) is not values:
                self._hold(name, values)
        self._session.run_with_iobinding(self._binding)
        return self._logits.copy(), self._hidden.copy()

    def _write(self, name: str, values: npt.NDArray[Any]) -> None:
        held = self._inputs.get(name)
        if held is not None and held.shape == values.shape:
            held[...] = values
        else:
            self._hold(name, np.array(values, order="C"))

    def _hold(self, name: str, values: npt.NDArray[Any]) -> None:
        self._inputs[name] = values
        _bind(self._binding.bind_input, name, values)


def _bind(bind: Callable[..., None], name: str, values: npt.NDArray[Any]) -> None:
    """An array where it lies; the binding does not keep it alive."""
    bind(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)


def rotations(config: LanguageModelConfig, positions: int) -> tuple[Float32, Float32]:
    """Cosines and sines (positions, padded head / 2), rounded once from float64."""
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = np.zeros((positions, padded_head(config) // 2))
    angles[:, : len(frequencies)] = np.arange(positions)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
