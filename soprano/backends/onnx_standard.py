"""ONNX Runtime on the CPU: the standard graphs and a dynamic KV cache.

Every bundle can be run so; the suite judges exported standard graphs through it.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from soprano.backends.base import ComposedBackend, naming, network_files, require_precision
from soprano.backends.dynamic_cache import DynamicCache
from soprano.backends.onnx_session import OnnxNetwork
from soprano.backends.protocol import Capabilities, Float32, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.source import LANGUAGE_MODEL

Cache = list[ort.OrtValue]  # keys and values layer by layer, each (B, KV heads, S, head_dim)


class StandardOnnxBackend(ComposedBackend):
    """The standard graphs of a bundle or of a checkpoint."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "onnx_standard")
        network = StandardOnnxNetwork(folder, threads)
        capabilities = Capabilities(precision, folder.activations("onnx"), verify=True)
        super().__init__("onnx_standard", network, DynamicCache(), folder.config, capabilities)


class StandardOnnxNetwork(OnnxNetwork):
    """A `DynamicCacheNetwork` whose cache stays in the runtime's tensors."""

    graph = LANGUAGE_MODEL
    operators = "standard operators"

    def run(
        self, ids: Int64, attention_mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        session = self.language_model
        binding = session.io_binding()
        for name, values in (
            ("input_ids", ids),
            ("attention_mask", attention_mask),
            ("position_ids", positions),
        ):
            binding.bind_cpu_input(name, np.ascontiguousarray(values))
        names = cache_names(self.config.num_hidden_layers)
        for (name, _), past in zip(names, cache, strict=True):
            binding.bind_ortvalue_input(name, past)
        for name in ("logits", "last_hidden_state", *(present for _, present in names)):
            binding.bind_output(name)  # the runtime allocates: sizes grow with the cache
        with naming(self.failure):
            session.run_with_iobinding(binding)
        logits, hidden, *present = binding.get_outputs()
        return logits.numpy(), hidden.numpy(), present

    def empty_cache(self, batch: int) -> Cache:
        shape = (batch, self.config.num_key_value_heads, 0, self.config.head_dim)
        return self.write_cache([np.zeros(shape, np.float32)] * (2 * self.config.num_hidden_layers))

    def read_cache(self, cache: Cache) -> list[Float32]:
        return [past.numpy() for past in cache]

    def write_cache(self, arrays: list[Float32]) -> Cache:
        # A copy: the arrays of `read_cache` may lie in memory that another cache owns.
        return [ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C")) for array in arrays]
