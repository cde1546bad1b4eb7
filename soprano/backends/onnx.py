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
from soprano.backends.protocol import Backend, Capabilities, Float32, Int64, Verified
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
        capabilities = Capabilities(
            precision, folder.activations("onnx"), verify=network.chooses_outputs
        )
        super().__init__("onnx_cpu", network, StaticCache(), folder.config, capabilities)


class FusedOnnxNetwork(OnnxNetwork):
    """A `StaticCacheNetwork`."""

    graph = FUSED_LANGUAGE_MODEL
    operators = "fused operators"

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        super().__init__(folder, threads)
        self._rotary = rotary_tables(self.config, 0)
        session = self._sessions.get(LANGUAGE_MODEL)
        # Graphs of older bundles have outputs only after the last id of each row.
        self.chooses_outputs = session is not None and len(session.get_outputs()[0].shape) == 3

    def run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: BoundCache
    ) -> tuple[Float32, Float32]:
        logits, hidden = self._run(ids, last[:, None], lengths, cache)
        return logits[:, 0], hidden[:, 0]

    def run_each(self, ids: Int64, new: Int64, lengths: Int64, cache: BoundCache) -> Verified:
        model = self.config
        logits = np.zeros((*ids.shape, model.vocab_size), np.float32)
        hidden = np.zeros((*ids.shape, model.hidden_size), np.float32)
        # The runtime's attention reads several ids after earlier ones only of one row.
        for row, count in enumerate(new):
            own, columns = ids[row : row + 1, :count], np.arange(count)[None]
            outputs = self._run(own, columns, lengths[row : row + 1], cache.row(row))
            logits[row, :count], hidden[row, :count] = (output[0] for output in outputs)
        return Verified(logits, hidden, None)

    def _run(
        self, ids: Int64, columns: Int64, lengths: Int64, cache: BoundCache
    ) -> tuple[Float32, Float32]:
        """Logits (B, N, V) and hidden states (B, N, H) after the ids in `columns` (B, N)."""
        rotary, total = self._rotary, int(lengths.max())
        if total > len(rotary[0]):
            # Threads that share the network may replace each other's tables, never change them.
            rotary = self._rotary = rotary_tables(self.config, 2 * total)
        with naming(self.failure):
            return cache.run(ids, columns, lengths, rotary)

    def empty_cache(self, batch: int, capacity: int) -> BoundCache:
        config = self.config
        shape = (batch, config.num_key_value_heads, capacity, padded_head(config))
        arrays = [np.zeros(shape, np.float32) for _ in range(2 * config.num_hidden_layers)]
        return BoundCache(self.language_model, config, arrays)

    def read_cache(self, cache: BoundCache) -> list[Float32]:
        return cache.arrays


class BoundCache:
    """Keys and values layer by layer, each (B, KV heads, capacity, D), bound to a session.

    All inputs and outputs of a step are bound to fixed buffers; a step only overwrites values.
    """

    def __init__(
        self, session: ort.InferenceSession, config: LanguageModelConfig, arrays: list[Float32]
    ) -> None:
        self.arrays = arrays
        self._session, self._config, self._binding = session, config, session.io_binding()
        self._inputs: dict[str, npt.NDArray[Any]] = {}
        self._outputs: list[Float32] = []  # logits and hidden states
        self._rows: dict[int, BoundCache] = {}
        names = cache_names(config.num_hidden_layers)
        for (past, present), array in zip(names, arrays, strict=True):
            _bind(self._binding.bind_input, past, array)
            _bind(self._binding.bind_output, present, array)

    def row(self, row: int) -> BoundCache:
        """One row, in the same memory."""
        if len(self.arrays[0]) == 1:
            return self
        if row not in self._rows:
            arrays = [array[row : row + 1] for array in self.arrays]
            self._rows[row] = BoundCache(self._session, self._config, arrays)
        return self._rows[row]

    def run(
        self, ids: Int64, columns: Int64, lengths: Int64, rotary: tuple[Float32, Float32]
    ) -> tuple[Float32, Float32]:
        """Logits (B, N, V) and hidden states (B, N, H) after the ids in `columns` (B, N)."""
        self._bind_outputs(*columns.shape)
        self._write("input_ids", ids)
        self._write("last_columns", columns[:, :, None])
        self._write("row_lengths", (lengths - 1).astype(np.int32))
        self._write("total_length", np.array(lengths.max(), np.int32))
        for name, table in zip(("cos", "sin"), rotary, strict=True):
            if self._inputs.get(name) is not table:
                self._bind_input(name, table)
        self._session.run_with_iobinding(self._binding)
        logits, hidden = (values.copy() for values in self._outputs)
        return logits, hidden

    def _bind_outputs(self, batch: int, count: int) -> None:
        if self._outputs and self._outputs[0].shape[1] == count:
            return
        sizes = {"logits": self._config.vocab_size, "last_hidden_state": self._config.hidden_size}
        self._outputs = [np.empty((batch, count, size), np.float32) for size in sizes.values()]
        each = len(self._session.get_outputs()[0].shape) == 3
        for name, values in zip(sizes, self._outputs, strict=True):
            _bind(self._binding.bind_output, name, values if each else values[:, 0])

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
