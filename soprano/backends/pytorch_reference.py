"""The reference networks on PyTorch as `soprano.reference` writes them, with a growing cache.

Slower than `pytorch`: it is the yardstick, whose error against float64 is the suite's noise floor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from soprano.backends import Attestation, Capabilities, Float32, Int64
from soprano.backends.base import require_precision
from soprano.backends.dynamic_cache import GrowingCacheBackend
from soprano.backends.pytorch_common import attest, configure, spectrum
from soprano.checkpoint.folder import ModelFolder
from soprano.reference.language_model import Cache
from soprano.reference.load import load_decoder, load_language_model


class PlainPyTorchBackend(GrowingCacheBackend):
    """The reference as it is read."""

    name = "pytorch_plain"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        configure(threads)
        self.config = folder.config
        self.capabilities = Capabilities(precision=precision)
        self._language_model = load_language_model(folder)
        self._decoder = load_decoder(folder)

    def attest(self) -> Attestation:
        return attest(self._decoder, self._empty(1)[0][0].dtype)

    @torch.inference_mode()
    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        output = self._language_model(
            torch.tensor(ids), torch.tensor(mask), torch.tensor(positions), cache
        )
        return output.logits.numpy(), output.hidden.numpy(), output.cache

    def _spectrum(self, hidden: Float32) -> Float32:
        return spectrum(self._decoder, hidden)

    def _empty(self, batch: int) -> Cache:
        return self._language_model.empty_cache(batch)

    def _copy(self, cache: Cache) -> Cache:
        return cache  # tensors of a cache are never written to

    def _take(self, cache: Cache, rows: Int64, columns: Int64) -> Cache:
        return [(keys[rows][:, :, columns], values[rows][:, :, columns]) for keys, values in cache]

    def _merge(self, first: Cache, second: Cache) -> Cache:
        width = max(first[0][0].shape[2], second[0][0].shape[2])
        return [
            (_rows(keys, more_keys, width), _rows(values, more_values, width))
            for (keys, values), (more_keys, more_values) in zip(first, second, strict=True)
        ]


def _rows(first: Tensor, second: Tensor, width: int) -> Tensor:
    """The rows of both, (B, KV heads, S, D), with zero columns up to `width`."""
    widened = [functional.pad(x, (0, 0, 0, width - x.shape[2])) for x in (first, second)]
    return torch.cat(widened)
