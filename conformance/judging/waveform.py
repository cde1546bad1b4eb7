"""Two sounds: the same number of samples, in step, of one polarity, and then within the limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.compare import Comparison, Limit, floats

FARTHEST = 4096  # samples of lag that are looked for


def sounds(quantity: str, actual: Any, expected: npt.NDArray[Any], limit: Limit) -> Comparison:
    """A comparison whose fault says first what a listener of waveforms would."""
    found = floats(quantity, actual, expected, limit)
    if found.fault is None:
        return found
    if not isinstance(actual, np.ndarray) or actual.ndim != 1:
        return found
    if len(actual) != len(expected):
        counts = f"{len(actual)} samples, wanted {len(expected)}"
        return replace(found, fault=counts)
    if not np.isfinite(actual).all():
        return found
    lag, alike = _lag(actual.astype(np.float64), expected.astype(np.float64))
    if lag:
        return replace(found, fault=f"{abs(lag)} samples {'late' if lag > 0 else 'early'}")
    if alike < 0:
        return replace(found, fault="inverted polarity")
    return found


def _lag(actual: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> tuple[int, float]:
    """The shift at which they are most alike (0 if none is better), and how alike they are."""
    size = 2 * max(len(actual), 1)
    product = np.fft.rfft(actual, size) * np.conj(np.fft.rfft(expected, size))
    likeness = np.fft.irfft(product, size)
    farthest = min(FARTHEST, len(actual) - 1)
    lags = np.arange(-farthest, farthest + 1)
    best = int(lags[np.argmax(np.abs(likeness[lags]))])
    # What differs in places only is most alike unshifted, to within a trifle.
    if abs(likeness[best]) <= abs(likeness[0]) * (1 + 1e-6):
        best = 0
    return best, float(likeness[best])
