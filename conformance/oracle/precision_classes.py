"""The roundings that define each precision class.

fp16 and bf16 round every tensor, operand and result; int8 and int4 round the operands of large
matmuls. The difference between the float64 oracle with these roundings and the oracle without them
is the floor of the class: the error that a faultless implementation has on the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conformance.oracle.networks import DecoderOracle, Float64, LanguageModelOracle, Matmul, Weights
from soprano.config import DecoderConfig, LanguageModelConfig

Rounding = Callable[[Float64], Float64]
_EMBEDDINGS = "model.embed_tokens.weight"


def exact(x: Float64) -> Float64:
    """No rounding."""
    return x


def to_half(x: Float64) -> Float64:
    """IEEE half precision: 11 significant bits."""
    return x.astype(np.float16).astype(np.float64)


def to_bfloat(x: Float64) -> Float64:
    """bfloat16: the nearest float32 whose lower half is zero, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return ((bits + even) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def by_row(largest: int) -> Rounding:
    """Each row is rounded to codes from -`largest` to `largest` times its scale."""

    def rounding(x: Float64) -> Float64:
        scale = np.abs(x).max(axis=-1, keepdims=True) / largest
        return np.rint(x / np.where(scale == 0, 1, scale)) * scale

    return rounding


def by_tensor(largest: int) -> Rounding:
    """As `by_row`, with one scale for all rows."""
    rounding_row = by_row(largest)
    return lambda x: rounding_row(x.reshape(1, -1)).reshape(x.shape)


def by_block(largest: int, block: int) -> Rounding:
    """Each block of a row is rounded as by `by_row`."""
    rounding_row = by_row(largest)

    def rounding(x: Float64) -> Float64:
        columns = x.shape[-1]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -columns % block)])
        blocks = rounding_row(padded.reshape(*x.shape[:-1], -1, block))
        return blocks.reshape(padded.shape)[..., :columns]

    return rounding


@dataclass(frozen=True)
class Precision:
    """The roundings of one class."""

    # By the first pattern found in the module's name; other matmuls are exact.
    matrices: tuple[tuple[str, Rounding], ...] = ()
    inputs: Rounding = exact  # of a matmul whose matrix is rounded
    tensors: Rounding = exact  # of the checkpoint
    results: Rounding = exact  # of every operation
    embeddings: Rounding = exact  # of the table of embeddings
    cache: Rounding = exact  # of keys and values, each (T, KV heads, head_dim)

    def weights(self, weights: Weights) -> Weights:
        rounded = {name: self.tensors(own.astype(np.float64)) for name, own in weights.items()}
        if _EMBEDDINGS in rounded:
            rounded[_EMBEDDINGS] = self.embeddings(rounded[_EMBEDDINGS])
        return rounded

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


_EIGHT, _FOUR = by_row(127), by_block(7, 32)
_TENSOR = by_tensor(127)
_LARGE = r"_proj$|^lm_head$|^model\.embed_tokens$|pwconv"

# The quantised classes leave the decoder's head and depthwise kernels in float, because their
# outputs pass through exp, cos and sin.
CLASSES = {
    "fp16": Precision((("", exact),), to_half, to_half, to_half),
    "bf16": Precision((("", exact),), to_bfloat, to_bfloat, to_bfloat),
    "int8": Precision(((_LARGE, _EIGHT),), _EIGHT),
    "int4": Precision(((r"layers.*_proj$", _FOUR), (_LARGE, _EIGHT)), _EIGHT),
}

# Of exports of other tools with one scale for each matrix, and one for the inputs of a call.
PER_TENSOR = Precision(((_LARGE, _TENSOR),), _TENSOR, embeddings=_TENSOR)

# For matrices that are already rounded: only the inputs are rounded, to 8 bits.
ROUNDED_INPUTS = Precision(((_LARGE, exact),), _EIGHT)


class RoundedLanguageModel(LanguageModelOracle):
    """The language model's oracle in a precision class."""

    def __init__(self, config: LanguageModelConfig, weights: Weights, precision: Precision) -> None:
        super().__init__(config, precision.weights(weights), precision.matmul())
        self._precision = precision

    def _add(self, x: Float64, y: Float64) -> Float64:
        return self._precision.results(super()._add(x, y))

    def _cache(self, keys: Float64, values: Float64) -> tuple[Float64, Float64]:
        return self._precision.cache(keys), self._precision.cache(values)

    def _linear(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._linear(x, name))

    def _norm(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._norm(x, name))

    def _rotate(self, x: Float64) -> Float64:
        return self._precision.results(super()._rotate(x))


class RoundedDecoder(DecoderOracle):
    """The decoder's oracle in a precision class."""

    def __init__(self, config: DecoderConfig, weights: Weights, precision: Precision) -> None:
        super().__init__(config, precision.weights(weights), precision.matmul())
        self._precision = precision

    def _add(self, x: Float64, y: Float64) -> Float64:
        return self._precision.results(super()._add(x, y))

    def _interpolate(self, hidden: Float64) -> Float64:
        return self._precision.results(super()._interpolate(hidden))

    def _convolve(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._convolve(x, name))

    def _depthwise(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._depthwise(x, name))

    def _norm(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._norm(x, name))

    def _linear(self, x: Float64, name: str) -> Float64:
        return self._precision.results(super()._linear(x, name))
