"""Comparison of two waveforms that names a wrong length, a lag and an inverted polarity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.compare import Comparison, Limit, floats

FARTHEST = 4096  # samples: the largest lag that is searched


def compare_waveforms(
    quantity: str, actual: Any, expected: npt.NDArray[Any], limit: Limit
) -> Comparison:
    """As `compare.floats`; the fault states the simplest difference that explains the error."""
    result = floats(quantity, actual, expected, limit)
    if result.fault is None:
        return result
    if not isinstance(actual, np.ndarray) or actual.ndim != 1:
        return result
    if len(actual) != len(expected):
        counts = f"{len(actual)} samples, wanted {len(expected)}"
        return replace(result, fault=counts)
    if not np.isfinite(actual).all():
        return result
    lag, correlation = _lag(actual.astype(np.float64), expected.astype(np.float64))
    if lag:
        return replace(result, fault=f"{abs(lag)} samples {'late' if lag > 0 else 'early'}")
    if correlation < 0:
        return replace(result, fault="inverted polarity")
    return result


def _lag(actual: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> tuple[int, float]:
    """The lag of the largest correlation (0 if none is larger), and that correlation."""
    size = 2 * max(len(actual), 1)
    product = np.fft.rfft(actual, size) * np.conj(np.fft.rfft(expected, size))
    correlation = np.fft.irfft(product, size)
    farthest = min(FARTHEST, len(actual) - 1)
    lags = np.arange(-farthest, farthest + 1)
    best = int(lags[np.argmax(np.abs(correlation[lags]))])
    # Local differences leave the largest correlation at lag 0, within rounding.
    if abs(correlation[best]) <= abs(correlation[0]) * (1 + 1e-6):
        best = 0
    return best, float(correlation[best])
