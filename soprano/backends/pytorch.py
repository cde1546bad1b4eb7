"""PyTorch in eager mode, on packed matrices and a static KV cache."""

from __future__ import annotations

from soprano.backends.base import ComposedBackend, network_files, require_precision
from soprano.backends.protocol import Capabilities, Float32, Int64, Verified
from soprano.backends.pytorch_common import PyTorchNetwork, isolated, tensor
from soprano.backends.static_cache import StaticCache
from soprano.checkpoint.folder import ModelFolder
from soprano.reference.load import load_language_model
from soprano.reference.packed import PackedLanguageModel, StaticBuffers


class PyTorchBackend(ComposedBackend):
    """The baseline for other backends; float32."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "pytorch")
        network = PackedNetwork(folder, threads)
        capabilities = Capabilities(precision=precision, verify=True)
        super().__init__("pytorch", network, StaticCache(), folder.config, capabilities)


class PackedNetwork(PyTorchNetwork):
    """A `StaticCacheNetwork`."""

    @isolated
    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        super().__init__(folder, threads)
        self._language_model = PackedLanguageModel(load_language_model(folder))
        self.cache_dtype = self.empty_cache(1, 0)[0][0].dtype

    @isolated
    def run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: StaticBuffers
    ) -> tuple[Float32, Float32]:
        inputs = tensor(ids), tensor(last), tensor(lengths)
        logits, hidden = self._language_model(*inputs, cache)
        return logits.numpy(), hidden.numpy()

    @isolated
    def run_each(self, ids: Int64, new: Int64, lengths: Int64, cache: StaticBuffers) -> Verified:
        inputs = tensor(ids), tensor(new - 1), tensor(lengths)
        logits, hidden = self._language_model.each(*inputs, cache)
        return Verified(logits.numpy(), hidden.numpy(), None)

    @isolated
    def empty_cache(self, batch: int, capacity: int) -> StaticBuffers:
        return self._language_model.empty_cache(batch, capacity)

    def read_cache(self, cache: StaticBuffers) -> list[Float32]:
        return [tensor.numpy() for pair in cache for tensor in pair]
