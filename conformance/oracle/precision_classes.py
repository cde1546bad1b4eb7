"""The roundings that define each precision class.

A class rounds the operands of matmuls and nothing else. The difference between the float64 oracle
with these roundings and the oracle without them is the floor of the class: the error that a
faultless implementation has on the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from conformance.oracle.networks import Float64, Matmul, Weights

Rounding = Callable[[Float64], Float64]
Network = TypeVar("Network")


def to_half(x: Float64) -> Float64:
    """IEEE half precision: 11 significant bits."""
    return x.astype(np.float16).astype(np.float64)


def to_bfloat(x: Float64) -> Float64:
    """bfloat16: the nearest float32 whose lower half is zero, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return ((bits + even) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def blockwise(largest: int, block: int) -> Rounding:
    """Each block of a row is rounded to codes from -`largest` to `largest` times its scale."""

    def rounding(x: Float64) -> Float64:
        columns = x.shape[-1]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -columns % block)])
        blocks = padded.reshape(*x.shape[:-1], -1, block)
        scale = np.abs(blocks).max(axis=-1, keepdims=True) / largest
        nearest = np.rint(blocks / np.where(scale == 0, 1, scale)) * scale
        return nearest.reshape(padded.shape)[..., :columns]

    return rounding


@dataclass(frozen=True)
class Precision:
    """The roundings of one class."""

    matrices: tuple[tuple[str, Rounding], ...]  # by the first pattern found in the module's name
    inputs: Rounding  # of a matmul whose matrix is rounded
    tensors: Rounding | None = None  # of all other tensors; None leaves them exact

    def weights(self, weights: Weights) -> Weights:
        if self.tensors is None:
            return weights
        return {name: self.tensors(values.astype(np.float64)) for name, values in weights.items()}

    def matmul(self) -> Matmul:
        """The matmul of one network, which keeps its rounded matrices."""
        rounded: dict[str, Float64] = {}

        def matmul(x: Float64, matrix: Float64, module: str) -> Float64:
            rounding = next((r for pattern, r in self.matrices if re.search(pattern, module)), None)
            if rounding is None:
                return x @ matrix.T
            if module not in rounded:
                rounded[module] = rounding(matrix)
            return self.inputs(x) @ rounded[module].T

        return matmul


_EIGHT, _FOUR = blockwise(127, 128), blockwise(7, 32)
_LARGE = r"_proj$|^lm_head$|^model\.embed_tokens$|pwconv"

# fp16 and bf16 round every operand. The quantised classes leave the decoder's head and depthwise
# kernels in float, because their outputs pass through exp, cos and sin.
CLASSES = {
    "fp16": Precision((("", to_half),), to_half, to_half),
    "bf16": Precision((("", to_bfloat),), to_bfloat, to_bfloat),
    "int8": Precision(((_LARGE, _EIGHT),), _EIGHT),
    "int4": Precision(((r"layers.*_proj$", _FOUR), (_LARGE, _EIGHT)), _EIGHT),
}

# For matrices that are already rounded: only the inputs are rounded, to 8 bits.
ROUNDED_INPUTS = Precision(((_LARGE, lambda matrix: matrix),), _EIGHT)


def rounded(
    network: Callable[[Any, Weights, Matmul], Network],
    config: Any,
    weights: Weights,
    precision: Precision,
) -> Network:
    """An oracle of `conformance.oracle.networks` in a precision class."""
    return network(config, precision.weights(weights), precision.matmul())
