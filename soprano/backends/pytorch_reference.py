"""PyTorch on the reference networks as `soprano.reference` writes them, with a dynamic KV cache.

It is slower than `pytorch`. Its error against the float64 oracle is the suite's noise floor.
"""

from __future__ import annotations

from soprano.backends.base import ComposedBackend, network_files, require_precision
from soprano.backends.dynamic_cache import DynamicCache
from soprano.backends.protocol import Capabilities, Float32, Int64
from soprano.backends.pytorch_common import PyTorchNetwork, isolated, tensor
from soprano.checkpoint.folder import ModelFolder
from soprano.reference.language_model import Cache
from soprano.reference.load import load_language_model


class PyTorchReferenceBackend(ComposedBackend):
    """The reference networks, unchanged."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "pytorch_reference")
        network = ReferenceNetwork(folder, threads)
        capabilities = Capabilities(precision=precision, verify=True)
        super().__init__("pytorch_reference", network, DynamicCache(), folder.config, capabilities)


class ReferenceNetwork(PyTorchNetwork):
    """A `DynamicCacheNetwork`."""

    @isolated
    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        super().__init__(folder, threads)
        self._language_model = load_language_model(folder)
        self.cache_dtype = self.empty_cache(1)[0][0].dtype

    @isolated
    def run(
        self, ids: Int64, attention_mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        inputs = tensor(ids), tensor(attention_mask), tensor(positions)
        output = self._language_model(*inputs, cache)
        return output.logits.numpy(), output.hidden.numpy(), output.cache

    @isolated
    def empty_cache(self, batch: int) -> Cache:
        return self._language_model.empty_cache(batch)

    def read_cache(self, cache: Cache) -> list[Float32]:
        return [tensor.numpy() for pair in cache for tensor in pair]

    @isolated
    def write_cache(self, arrays: list[Float32]) -> Cache:
        tensors = list(map(tensor, arrays))
        return list(zip(tensors[0::2], tensors[1::2], strict=True))
