"""The settings, the decoder and the attestation of both PyTorch backends."""

from __future__ import annotations

from pathlib import Path

import torch

from soprano.backends.protocol import Attestation, Attested, Float32
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError
from soprano.reference.load import load_decoder


class PyTorchNetwork:
    """The reference's decoder; subclasses run the language model.

    PyTorch has one thread pool a process: `threads` sets it for every model.
    """

    cache_dtype: torch.dtype  # set by subclasses, of a cache that they made

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
            if torch.get_num_threads() != threads:
                raise BackendError(f"pytorch runs {torch.get_num_threads()} threads, not {threads}")
        if torch.get_float32_matmul_precision() != "highest":
            raise BackendError("torch.set_float32_matmul_precision must be 'highest' for fp32")
        self._path = folder.path
        self._decoder = load_decoder(folder)

    @torch.inference_mode()
    def decode(self, hidden: Float32) -> Float32:
        spectrum: Float32 = self._decoder.forward_spectral(torch.tensor(hidden)).numpy()
        return spectrum

    def attest(self) -> Attestation:
        return {
            "version": Attested(torch.__version__, "read back"),
            "device": Attested("cpu", "read back"),
            "threads": Attested(str(torch.get_num_threads()), "read back"),
            "precision": Attested(str(next(self._decoder.parameters()).dtype), "read back"),
            "matmul precision": Attested(torch.get_float32_matmul_precision(), "read back"),
            "cache precision": Attested(str(self.cache_dtype), "read back"),
            "optimisation": Attested("eager", "inferred"),
            "instruction set": Attested(torch.backends.cpu.get_cpu_capability(), "read back"),
        }

    def files(self) -> list[Path]:
        return ModelFolder.open(self._path).weight_files()

    def close(self) -> None:
        """The weights are released with the object."""
