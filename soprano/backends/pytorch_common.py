"""The settings, the decoder and the attestation of both PyTorch backends."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy.typing as npt
import torch

from soprano.backends.protocol import Attestation, Attested, Float32
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError
from soprano.forked import thread_was_forked
from soprano.reference.load import load_decoder

P = ParamSpec("P")
T = TypeVar("T")


def isolated(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that computes with PyTorch: what the caller has set has no effect.

    Autocast and inference mode belong to a thread, so they are set here. The default type and
    device belong to the process, so every new tensor names its own.

    Raises:
        BackendError: the process allows float32 matmuls a lower precision.
    """

    @wraps(call)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        if thread_was_forked():
            # It would wait for OpenMP's threads, which a fork does not copy; another thread
            # starts its own.
            return _executor(os.getpid()).submit(run, *arguments, **options).result()
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return run(*arguments, **options)
        if setting := _lowered_precision():
            raise BackendError(f"{setting}, which is below the precision of fp32")
        with torch.inference_mode():
            return call(*arguments, **options)

    return run


def tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    """A copy of an array, on the CPU whatever PyTorch's default device is."""
    return torch.tensor(values, device="cpu")


@cache
def _executor(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "pytorch")


def _lowered_precision() -> str | None:
    """The setting of this process that lowers the precision of float32 on the CPU, if any."""
    for part in ("matmul", "conv"):
        settings = getattr(torch.backends.mkldnn, part, None)
        if settings is None:  # before version 2.9
            precision = torch.get_float32_matmul_precision()
            return None if precision == "highest" else f"float32 matmuls are set to {precision!r}"
        if settings.fp32_precision not in ("none", "ieee"):
            return f"torch.backends.mkldnn.{part}.fp32_precision is {settings.fp32_precision!r}"
    return None


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
        self._path = folder.path
        self._decoder = load_decoder(folder)

    @isolated
    def decode(self, hidden: Float32) -> Float32:
        spectrum = self._decoder.forward_spectral(tensor(hidden))
        values: Float32 = spectrum.numpy()
        return values

    @isolated
    def attest(self) -> Attestation:
        return {
            "version": Attested(torch.__version__, "read back"),
            "device": Attested("cpu", "read back"),
            "threads": Attested(str(torch.get_num_threads()), "read back"),
            "precision": Attested(str(next(self._decoder.parameters()).dtype), "read back"),
            # A lower one is refused at every call.
            "matmul precision": Attested("highest", "read back"),
            "cache precision": Attested(str(self.cache_dtype), "read back"),
            "optimisation": Attested("eager", "inferred"),
            "instruction set": Attested(torch.backends.cpu.get_cpu_capability(), "read back"),
        }

    def files(self) -> list[Path]:
        return ModelFolder.open(self._path).weight_files()

    def close(self) -> None:
        """The weights are released with the object."""
