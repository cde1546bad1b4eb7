"""The reference networks on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from soprano.backends import Attestation, Capabilities, Float32, Int64
from soprano.backends.base import require_precision
from soprano.backends.pytorch_common import attest, configure, spectrum
from soprano.backends.static_cache import InPlaceCacheBackend, Source
from soprano.checkpoint.folder import ModelFolder
from soprano.reference.load import load_decoder, load_language_model
from soprano.reference.packed import Buffers, StackedLanguageModel


class PyTorchBackend(InPlaceCacheBackend):
    """The baseline that other backends are compared with; eager, float32.

    PyTorch has one thread pool a process: `threads` sets it for every model.
    """

    name = "pytorch"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        configure(threads)
        self.config = folder.config
        self.capabilities = Capabilities(precision=precision)
        self._language_model = StackedLanguageModel(load_language_model(folder))
        self._decoder = load_decoder(folder)

    def attest(self) -> Attestation:
        return attest(self._decoder, self._language_model.buffers(1, 0)[0][0].dtype)

    @torch.inference_mode()
    def _run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: Buffers
    ) -> tuple[Float32, Float32]:
        logits, hidden = self._language_model(
            torch.tensor(ids), torch.tensor(last), torch.tensor(lengths), cache
        )
        return logits.numpy(), hidden.numpy()

    def _spectrum(self, hidden: Float32) -> Float32:
        return spectrum(self._decoder, hidden)

    @torch.inference_mode()
    def _gather(
        self, sources: Sequence[Source], columns: int, capacity: int, batch: int
    ) -> Buffers:
        buffers = self._language_model.buffers(batch, capacity)
        first = 0
        for source in sources:
            there, rows = slice(first, first + len(source.rows)), torch.tensor(source.rows)
            for new, old in zip(buffers, source.cache, strict=True):
                for to, values in zip(new, old, strict=True):
                    kept = min(columns, values.shape[2])
                    to[there, :, :kept] = values[rows, :, :kept]
            first += len(source.rows)
        return buffers
