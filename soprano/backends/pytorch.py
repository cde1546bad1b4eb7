"""The reference networks on PyTorch."""

from __future__ import annotations

import torch

from soprano.backends import Attestation, Attested, Capabilities, Float32, Int64
from soprano.backends.growing import GrowingCacheBackend
from soprano.backends.rows import require_precision
from soprano.errors import BackendError
from soprano.model import ModelFolder
from soprano.reference.checkpoint import load_decoder, load_language_model
from soprano.reference.lm import Cache


class PyTorchBackend(GrowingCacheBackend):
    """The baseline that other backends are compared with; eager, float32.

    PyTorch has one thread pool a process: `threads` sets it for every model.
    """

    name = "pytorch"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        if threads is not None:
            torch.set_num_threads(threads)
            if torch.get_num_threads() != threads:
                raise BackendError(f"pytorch runs {torch.get_num_threads()} threads, not {threads}")
        if torch.get_float32_matmul_precision() != "highest":
            raise BackendError("torch.set_float32_matmul_precision must be 'highest' for fp32")
        self.config = folder.config
        self.capabilities = Capabilities(precision=precision)
        self._language_model = load_language_model(folder)
        self._decoder = load_decoder(folder)

    def attest(self) -> Attestation:
        return {
            "version": Attested(torch.__version__, "read back"),
            "device": Attested("cpu", "read back"),
            "threads": Attested(str(torch.get_num_threads()), "read back"),
            "precision": Attested(str(next(self._decoder.parameters()).dtype), "read back"),
            "matmul precision": Attested(torch.get_float32_matmul_precision(), "read back"),
            "cache precision": Attested(str(self._empty(1)[0][0].dtype), "read back"),
            "optimisation": Attested("eager", "inferred"),
            "instruction set": Attested(torch.backends.cpu.get_cpu_capability(), "read back"),
        }

    @torch.inference_mode()
    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        output = self._language_model(
            torch.tensor(ids), torch.tensor(mask), torch.tensor(positions), cache
        )
        return output.logits.numpy(), output.hidden.numpy(), output.cache

    @torch.inference_mode()
    def _spectrum(self, hidden: Float32) -> Float32:
        spectrum: Float32 = self._decoder.forward_spectral(torch.tensor(hidden)).numpy()
        return spectrum

    def _empty(self, batch: int) -> Cache:
        return self._language_model.empty_cache(batch)

    def _copy(self, cache: Cache) -> Cache:
        return cache  # tensors of a cache are never written to

    @torch.inference_mode()
    def _take(self, cache: Cache, rows: Int64, columns: Int64) -> Cache:
        index, kept = torch.tensor(rows), torch.tensor(columns)
        return [(k[index][:, :, kept], v[index][:, :, kept]) for k, v in cache]

    @torch.inference_mode()
    def _merge(self, first: Cache, second: Cache) -> Cache:
        width = max(first[0][0].shape[2], second[0][0].shape[2])

        def both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.cat(
                [torch.nn.functional.pad(x, (0, 0, 0, width - x.shape[2])) for x in (a, b)]
            )

        return [(both(a[0], b[0]), both(a[1], b[1])) for a, b in zip(first, second, strict=True)]
