"""What a report shows of outputs and expectations: quantiles of the errors, and short audio."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.compare import Comparison

NORMAL = tuple(i / 4 for i in range(-12, 13))  # quantiles of the standard normal distribution
_PROBABILITIES = [NormalDist().cdf(z) for z in NORMAL]
_ELEMENTS = 4096  # of which the quantiles are taken
MOST = 49_152  # samples of an excerpt
_PEAK = 32767


@dataclass(frozen=True)
class Excerpt:
    """Samples that were compared: 16 bits of the expected ones, and of the error by itself.

    A sample is the integer times the scale. The error has its own scale, because that of a correct
    backend is smaller than a step of the samples.
    """

    quantity: str
    sample_rate: int
    start: int  # the index of the first sample in the whole
    failed: bool
    scale: float
    expected: str  # little-endian int16 in base64
    error_scale: float
    error: str

    def preferred_to(self, other: Excerpt | None) -> bool:
        """A failure, else the longest."""
        if other is None or self.failed != other.failed:
            return other is None or self.failed
        return len(self.expected) > len(other.expected)


def error_quantiles(actual: Any, expected: npt.ArrayLike, floor: float) -> tuple[float, ...]:
    """The quantiles of the signed errors at `NORMAL`, in noise floors; of many elements, of some.

    The arrays have the same shape and are finite.
    """
    wanted = np.asarray(expected, np.float64).ravel()
    step = slice(None, None, 1 + wanted.size // _ELEMENTS)
    errors = np.asarray(actual, np.float64).ravel()[step] - wanted[step]
    return tuple((np.quantile(errors, _PROBABILITIES) / floor).tolist())


def excerpt(comparison: Comparison, actual: Any, expected: Any, rate: int) -> Excerpt | None:
    """At most `MOST` samples around the worst error; None if these are no samples (N,)."""
    arrays = np.asarray(actual), np.asarray(expected)
    if any(array.ndim != 1 or array.dtype.kind != "f" for array in arrays) or not arrays[1].size:
        return None
    pair = [np.nan_to_num(x.astype(np.float64), posinf=0, neginf=0) for x in arrays]
    size = max(map(len, pair))
    worst = comparison.where[-1] if comparison.where else 0
    start = max(min(worst - MOST // 2, size - MOST), 0)
    own, wanted = (np.pad(x, (0, size - len(x)))[start : start + MOST] for x in pair)
    (scale, text), (error_scale, error) = _encode(wanted), _encode(own - wanted)
    failed = comparison.fault is not None
    return Excerpt(comparison.quantity, rate, start, failed, scale, text, error_scale, error)


def _encode(samples: npt.NDArray[np.float64]) -> tuple[float, str]:
    scale = float(np.abs(samples).max()) / _PEAK or 1.0
    return scale, base64.b64encode(np.rint(samples / scale).astype("<i2").tobytes()).decode()


def decode(scale: float, text: str) -> npt.NDArray[np.float64]:
    """The samples (N,) of an excerpt."""
    return np.frombuffer(base64.b64decode(text), "<i2") * scale
