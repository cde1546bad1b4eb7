"""What each precision class may round, and the error that this rounding alone makes.

A class is a definition: the operands of products are rounded so, and everything else is exact.
The float64 oracle under that definition, against the oracle itself, gives the class's floor: the
error that a faultless implementation of the class has on the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conformance.oracle.networks import DecoderOracle, Float64, LanguageModelOracle

Rounding = Callable[[Float64], Float64]


def to_half(x: Float64) -> Float64:
    """IEEE half precision: 11 significant bits."""
    return x.astype(np.float16).astype(np.float64)


def to_bfloat(x: Float64) -> Float64:
    """bfloat16: the nearest float32 whose lower half is zero, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return ((bits + even) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def blockwise(levels: int, block: int) -> Rounding:
    """Rows cut into blocks, each rounded to `levels` equal steps either side of zero."""

    def rounded(x: Float64) -> Float64:
        columns = x.shape[-1]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -columns % block)])
        blocks = padded.reshape(*x.shape[:-1], -1, block)
        step = np.abs(blocks).max(axis=-1, keepdims=True) / levels
        nearest = np.rint(blocks / np.where(step == 0, 1, step)) * step
        return nearest.reshape(padded.shape)[..., :columns]

    return rounded


@dataclass(frozen=True)
class Precision:
    """The roundings of one class: of a product's matrix by the module's name, and of its input."""

    matrices: tuple[tuple[str, Rounding], ...]  # the first pattern found in the name decides
    inputs: Rounding
    vectors: Rounding | None = None  # of every other tensor; None leaves them exact

    def matrix(self, name: str) -> Rounding | None:
        return next((r for pattern, r in self.matrices if re.search(pattern, name)), None)


_EIGHT, _FOUR = blockwise(127, 128), blockwise(7, 32)
_LARGE = r"_proj$|^lm_head$|^model\.embed_tokens$|pwconv"

# Half and bfloat classes round every operand. Quantised ones leave the decoder's head and its
# depthwise kernels in float: what they give passes through exp, cos and sin.
CLASSES = {
    "fp16": Precision((("", to_half),), to_half, to_half),
    "bf16": Precision((("", to_bfloat),), to_bfloat, to_bfloat),
    "int8": Precision(((_LARGE, _EIGHT),), _EIGHT),
    "int4": Precision(((r"layers.*_proj$", _FOUR), (_LARGE, _EIGHT)), _EIGHT),
}

# Matrices that are already rounded, read with inputs rounded to 8 bits.
ROUNDED_INPUTS = Precision(((_LARGE, lambda matrix: matrix),), _EIGHT)


class _Rounded:
    """The products of an oracle with both operands rounded; the rest is the oracle's own."""

    def __init__(
        self,
        config: object,
        weights: Mapping[str, npt.NDArray[np.float32]],
        precision: Precision,
    ) -> None:
        super().__init__(config, weights)  # type: ignore[call-arg]
        self._precision = precision
        self._matrices = dict[str, Float64]()
        self._exact: dict[str, Float64] = self._weights
        if round_vector := precision.vectors:
            self._weights = {name: round_vector(values) for name, values in self._exact.items()}

    def _product(self, x: Float64, name: str) -> Float64:
        rounding = self._precision.matrix(name)
        if rounding is None:
            return x @ self._exact[f"{name}.weight"].T
        if name not in self._matrices:
            self._matrices[name] = rounding(self._exact[f"{name}.weight"])
        return self._precision.inputs(x) @ self._matrices[name].T


class RoundedLanguageModel(_Rounded, LanguageModelOracle):
    """The language model's oracle in a precision class."""


class RoundedDecoder(_Rounded, DecoderOracle):
    """The decoder's oracle in a precision class."""
