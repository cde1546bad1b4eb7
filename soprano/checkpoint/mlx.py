"""Weights in the layout of MLX: other names, transposed kernels, and quantised matrices.

MLX writes a matrix of B bits as 32/B codes in each uint32, from the lowest bits, with a scale and a
bias for each group of a row: value = scale * code + bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.checkpoint.tensors import Float32, Tensor
from soprano.errors import ModelError

Codes = npt.NDArray[np.uint32]
_BITS = (2, 4, 8)
_LANGUAGE_MODEL, _DECODER = "language_model.", "decoder."


def is_mlx(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint was written by MLX: by its `config.json` or the names of its tensors."""
    foreign = (_LANGUAGE_MODEL, f"{_DECODER}decoder.", f"{_DECODER}head.")
    return "quantization" in document or any(name.startswith(foreign) for name in tensors)


def read_mlx(
    path: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, dict[str, Float32]]:
    """The tensors of "language_model" and "decoder" by their names in a published checkpoint.

    Raises:
        ModelError: the form of a quantised matrix is not known, or a part of it is missing.
    """
    stated = document.get("quantization") or {}
    if not isinstance(stated, dict):
        raise ModelError(f"config.json: quantization must be an object, got {stated!r}")
    if (mode := stated.get("mode", "affine")) != "affine":
        raise ModelError(f"config.json: quantization.mode must be 'affine', got {mode!r}")
    found: dict[str, dict[str, Float32]] = {"language_model": {}, "decoder": {}}
    for name, read in _matrices(path, stated, tensors):
        if name.startswith(_DECODER):
            values = read()
            # A kernel is (outputs, size, inputs) in MLX.
            kernel = values.swapaxes(1, 2) if values.ndim == 3 else values
            found["decoder"][name.removeprefix(_DECODER)] = np.ascontiguousarray(kernel)
        else:
            own = name.removeprefix(_LANGUAGE_MODEL)
            known = own.startswith(("model.", "lm_head."))
            found["language_model"][own if known else f"model.{own}"] = read()
    return found


def _matrices(
    path: Path, stated: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Callable[[], Float32]]]:
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind in ("scales", "biases") and f"{module}.weight" in tensors:
            continue
        if tensor.dtype != "U32":
            yield name, tensor.read
            continue
        for part in ("scales", "biases"):
            if f"{module}.{part}" not in tensors:
                raise ModelError(f"{path}: missing tensor {module}.{part} of a quantised matrix")
        own = stated.get(module)
        numbers = {**stated, **(own if isinstance(own, dict) else {})}
        parts = [tensors[f"{module}.{part}"].read() for part in ("scales", "biases")]
        values = dequantise(f"{path}: {module}", numbers, tensor.codes(), *parts)
        yield name, lambda values=values: values  # type: ignore[misc]


def dequantise(
    where: str, numbers: Mapping[str, Any], codes: Codes, scales: Float32, biases: Float32
) -> Float32:
    """The matrix (N, K) of packed codes (N, K * bits / 32), scales and biases (N, groups)."""
    for name in ("bits", "group_size"):
        if not isinstance(numbers.get(name), int):
            raise ModelError(f"config.json: missing number 'quantization.{name}'")
    bits, size = numbers["bits"], numbers["group_size"]
    if bits not in _BITS:
        raise ModelError(f"{where}: bits must be 2, 4 or 8, got {bits}")
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    wide = (codes[..., None] >> shifts) & np.uint32(2**bits - 1)
    rows = wide.reshape(len(codes), -1).astype(np.float32)  # (N, K)
    if scales.shape != biases.shape or scales.shape != (len(rows), rows.shape[1] // size):
        raise ModelError(
            f"{where}: {rows.shape[1]} columns in groups of {size} do not fit scales of shape "
            f"{scales.shape} and biases of shape {biases.shape}"
        )
    return rows * np.repeat(scales, size, axis=1) + np.repeat(biases, size, axis=1)
