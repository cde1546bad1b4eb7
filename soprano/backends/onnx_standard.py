"""ONNX Runtime on the CPU, on graphs of standard operators alone.

Any bundle can be run so; the suite judges exported standard graphs through it.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from soprano.backends import Attestation, Capabilities, Float32, Int64
from soprano.backends.base import require_precision
from soprano.backends.dynamic_cache import GrowingCacheBackend, widen_cache
from soprano.backends.onnx_session import attest, attest_products, open_sessions, spectrum
from soprano.checkpoint.folder import ModelFolder
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.source import DECODER, LANGUAGE_MODEL, find_graph, require

Cache = list[ort.OrtValue]  # keys and values layer by layer, each (B, KV heads, S, head_dim)


class StandardOnnxBackend(GrowingCacheBackend):
    """The standard graphs of a bundle or of a checkpoint; the cache stays in runtime tensors."""

    name = "onnx_standard"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        self.config = folder.config
        self.capabilities = Capabilities(precision, folder.activations("onnx"))
        graphs = {part: find_graph(folder, part) for part in (LANGUAGE_MODEL, DECODER)}
        self._sessions = open_sessions(graphs, threads)
        self._quantised = list(graphs.values()) if folder.quantised else []

    def attest(self) -> Attestation:
        attested = attest(next(iter(self._sessions.values())), "standard operators")
        return attested | attest_products(self._quantised) if self._quantised else attested

    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        session = require(self._sessions.get(LANGUAGE_MODEL), LANGUAGE_MODEL)
        binding = session.io_binding()
        for name, values in (
            ("input_ids", ids),
            ("attention_mask", mask),
            ("position_ids", positions),
        ):
            binding.bind_cpu_input(name, np.ascontiguousarray(values))
        names = cache_names(self.config.language_model.num_hidden_layers)
        for (name, _), past in zip(names, cache, strict=True):
            binding.bind_ortvalue_input(name, past)
        for name in ("logits", "last_hidden_state", *(present for _, present in names)):
            binding.bind_output(name)  # the runtime allocates: sizes grow with the cache
        session.run_with_iobinding(binding)
        logits, hidden, *present = binding.get_outputs()
        return logits.numpy(), hidden.numpy(), present

    def _spectrum(self, hidden: Float32) -> Float32:
        return spectrum(require(self._sessions.get(DECODER), DECODER), hidden)

    def _empty(self, batch: int) -> Cache:
        model = self.config.language_model
        empty = np.zeros((batch, model.num_key_value_heads, 0, model.head_dim), np.float32)
        return [ort.OrtValue.ortvalue_from_numpy(empty)] * (2 * model.num_hidden_layers)

    def _copy(self, cache: Cache) -> Cache:
        return cache  # tensors of a cache are never written to

    def _take(self, cache: Cache, rows: Int64, columns: Int64) -> Cache:
        return [_value(past.numpy()[rows][:, :, columns]) for past in cache]

    def _merge(self, first: Cache, second: Cache) -> Cache:
        width = max(first[0].shape()[2], second[0].shape()[2])
        return [
            _value(np.concatenate([widen_cache(x.numpy(), width) for x in pair]))
            for pair in zip(first, second, strict=True)
        ]


def _value(array: Float32) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
