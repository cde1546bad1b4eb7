"""The reference networks on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from soprano.backends import Attestation, Attested, Capabilities, Float32, Int64
from soprano.backends.in_place import InPlaceCacheBackend, Source
from soprano.backends.rows import require_precision
from soprano.errors import BackendError
from soprano.model import ModelFolder
from soprano.reference.checkpoint import load_decoder, load_language_model
from soprano.reference.stacked import Buffers, StackedLanguageModel


class PyTorchBackend(InPlaceCacheBackend):
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
        self._language_model = StackedLanguageModel(load_language_model(folder))
        self._decoder = load_decoder(folder)

    def attest(self) -> Attestation:
        return {
            "version": Attested(torch.__version__, "read back"),
            "device": Attested("cpu", "read back"),
            "threads": Attested(str(torch.get_num_threads()), "read back"),
            "precision": Attested(str(next(self._decoder.parameters()).dtype), "read back"),
            "matmul precision": Attested(torch.get_float32_matmul_precision(), "read back"),
            "cache precision": Attested(
                str(self._language_model.buffers(1, 0)[0][0].dtype), "read back"
            ),
            "optimisation": Attested("eager", "inferred"),
            "instruction set": Attested(torch.backends.cpu.get_cpu_capability(), "read back"),
        }

    @torch.inference_mode()
    def _run(
        self, ids: Int64, last: Int64, lengths: Int64, cache: Buffers
    ) -> tuple[Float32, Float32]:
        logits, hidden = self._language_model(
            torch.tensor(ids), torch.tensor(last), torch.tensor(lengths), cache
        )
        return logits.numpy(), hidden.numpy()

    @torch.inference_mode()
    def _spectrum(self, hidden: Float32) -> Float32:
        spectrum: Float32 = self._decoder.forward_spectral(torch.tensor(hidden)).numpy()
        return spectrum

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
