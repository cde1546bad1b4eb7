"""ONNX Runtime on the CPU: fused operators and a static KV cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from soprano.backends.base import ComposedBackend, naming, network_files, require_precision
from soprano.backends.onnx_community import CommunityOnnxBackend
from soprano.backends.onnx_session import OnnxNetwork
from soprano.backends.onnx_standard import StandardOnnxBackend
from soprano.backends.protocol import Backend, Capabilities, Float32, Int64
from soprano.backends.static_cache import StaticCache
from soprano.checkpoint.folder import ModelFolder
from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names, padded_head
from soprano.onnx_graphs.source import FUSED_LANGUAGE_MODEL, LANGUAGE_MODEL, graph_file


def open_onnx(
    folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """The fastest form of a model folder that ONNX Runtime can run.

    Only a bundle with a standard language model and no fused one runs on the standard graph.
    The graphs of a community export run as they are.
    """
    if folder.community_graphs:
        return CommunityOnnxBackend(folder, precision=precision, threads=threads)
    fused, standard = (graph_file(folder, part) for part in (FUSED_LANGUAGE_MODEL, LANGUAGE_MODEL))
    kind = StandardOnnxBackend if standard and not fused else OnnxBackend
    return kind(folder, precision=precision, threads=threads)


class OnnxBackend(ComposedBackend):
    """The fused language model and the decoder of a bundle or of a checkpoint."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "onnx_cpu")
        network = FusedOnnxNetwork(folder, threads)
        capabilities = Capabilities(precision, folder.activations("onnx"))
        super().__init__("onnx_cpu", network, StaticCache(), folder.config, capabilities)


class FusedOnnxNetwork(OnnxNetwork):
    """A `StaticCacheNetwork`."""

    graph = FUSED_LANGUAGE_MODEL
    operators = "fused operators"

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        super().__init__(folder, threads)
        self._rotary = rotary_tables(self.config, 0)

    def run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: BoundCache
    ) -> tuple[Float32, Float32]:
        rotary, total = self._rotary, int(lengths.max())
        if total > len(rotary[0]):
            # Threads that share the network may replace each other's tables, never change them.
            rotary = self._rotary = rotary_tables(self.config, 2 * total)
        with naming(self.failure):
            return cache.run(ids, last, lengths, rotary)

    def empty_cache(self, batch: int, capacity: int) -> BoundCache:
        return BoundCache(self.language_model, self.config, batch, capacity)

    def read_cache(self, cache: BoundCache) -> list[Float32]:
        return cache.arrays


class BoundCache:
    """Keys and values layer by layer, each (B, KV heads, capacity, D), bound to a session.

    All inputs and outputs of a step are bound to fixed buffers; a step only overwrites values.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        config: LanguageModelConfig,
        batch: int,
        capacity: int,
    ) -> None:
        shape = (batch, config.num_key_value_heads, capacity, padded_head(config))
        names = cache_names(config.num_hidden_layers)
        self.arrays = [np.zeros(shape, np.float32) for _ in names]
        self._session, self._binding = session, session.io_binding()
        self._inputs: dict[str, npt.NDArray[Any]] = {}
        self._logits = np.empty((batch, config.vocab_size), np.float32)
        self._hidden = np.empty((batch, config.hidden_size), np.float32)
        for (past, present), array in zip(names, self.arrays, strict=True):
            _bind(self._binding.bind_input, past, array)
            _bind(self._binding.bind_output, present, array)
        _bind(self._binding.bind_output, "logits", self._logits)
        _bind(self._binding.bind_output, "last_hidden_state", self._hidden)

    def run(
        self, ids: Int64, last: Int64, lengths: Int64, rotary: tuple[Float32, Float32]
    ) -> tuple[Float32, Float32]:
        self._write("input_ids", ids)
        self._write("last_columns", last[:, None, None])
        self._write("row_lengths", (lengths - 1).astype(np.int32))
        self._write("total_length", np.array(lengths.max(), np.int32))
        for name, table in zip(("cos", "sin"), rotary, strict=True):
            if self._inputs.get(name) is not table:
                self._bind_input(name, table)
        self._session.run_with_iobinding(self._binding)
        return self._logits.copy(), self._hidden.copy()

    def _write(self, name: str, values: npt.NDArray[Any]) -> None:
        bound = self._inputs.get(name)
        if bound is not None and bound.shape == values.shape:
            bound[...] = values
        else:
            self._bind_input(name, np.array(values, order="C"))

    def _bind_input(self, name: str, values: npt.NDArray[Any]) -> None:
        self._inputs[name] = values  # the binding does not keep it alive
        _bind(self._binding.bind_input, name, values)


def _bind(bind: Callable[..., None], name: str, values: npt.NDArray[Any]) -> None:
    bind(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)


def rotary_tables(config: LanguageModelConfig, positions: int) -> tuple[Float32, Float32]:
    """The rotary embedding's cos and sin (positions, padded head / 2), computed in float64."""
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = np.zeros((positions, padded_head(config) // 2))
    angles[:, : len(frequencies)] = np.arange(positions)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
