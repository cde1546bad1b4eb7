"""What both ways to run the reference networks on PyTorch share: settings and the decoder."""

from __future__ import annotations

import torch

from soprano.backends import Attestation, Attested, Float32
from soprano.errors import BackendError
from soprano.reference.decoder import Decoder


def configure(threads: int | None) -> None:
    """Set the process's one thread pool; an error where PyTorch would round products."""
    if threads is not None:
        torch.set_num_threads(threads)
        if torch.get_num_threads() != threads:
            raise BackendError(f"pytorch runs {torch.get_num_threads()} threads, not {threads}")
    if torch.get_float32_matmul_precision() != "highest":
        raise BackendError("torch.set_float32_matmul_precision must be 'highest' for fp32")


def attest(decoder: Decoder, cache: torch.dtype) -> Attestation:
    """What PyTorch says it runs with."""
    return {
        "version": Attested(torch.__version__, "read back"),
        "device": Attested("cpu", "read back"),
        "threads": Attested(str(torch.get_num_threads()), "read back"),
        "precision": Attested(str(next(decoder.parameters()).dtype), "read back"),
        "matmul precision": Attested(torch.get_float32_matmul_precision(), "read back"),
        "cache precision": Attested(str(cache), "read back"),
        "optimisation": Attested("eager", "inferred"),
        "instruction set": Attested(torch.backends.cpu.get_cpu_capability(), "read back"),
    }


@torch.inference_mode()
def spectrum(decoder: Decoder, hidden: Float32) -> Float32:
    """The decoder's spectrum (B, F, T', 2) of hidden states (B, T, H)."""
    found: Float32 = decoder.forward_spectral(torch.tensor(hidden)).numpy()
    return found
