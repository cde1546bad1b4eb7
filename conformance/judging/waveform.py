"""Comparison of two waveforms that names missing samples, a lag, a polarity and a level."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.compare import Comparison, Floats, Limit, floats
from conformance.judging.places import Axes, Axis, Places, samples

FARTHEST = 4096  # samples: the largest lag that is searched


def compare_waveforms(
    quantity: str,
    actual: Any,
    expected: npt.NDArray[Any],
    limit: Limit,
    places: Places | None = None,
) -> Comparison:
    """As `compare.floats`; the fault begins with the simplest difference that explains the error.

    `places` describe one axis of samples.
    """
    places = places or samples()
    result = floats(quantity, actual, expected, limit, np.float32, places)
    if result.fault is None or not isinstance(actual, np.ndarray) or actual.ndim != 1:
        return result
    if actual.dtype != np.float32 or not np.isfinite(actual).all():
        return result
    axis = places.axes[-1] if isinstance(places, Axes) else Axis("sample")
    one, other = actual.astype(np.float64), np.asarray(expected, np.float64)
    if len(one) != len(other):
        return replace(result, fault=_length_fault(one, other, limit, axis))
    if cause := _cause(one, other, limit, axis):
        return replace(result, fault=f"{cause}; {result.fault}")
    return result


def _cause(actual: Floats, expected: Floats, limit: Limit, axis: Axis) -> str | None:
    lag, correlation = _lag(actual, expected)
    if lag:
        return f"{axis.count(abs(lag))} {'late' if lag > 0 else 'early'}"
    if correlation < 0:
        return "inverted polarity"
    level = float(actual @ expected / (expected @ expected)) if expected.any() else 0.0
    if level and np.sqrt(np.mean((actual - level * expected) ** 2)) <= limit.rms:
        return f"the level is {level:.4g} times the expected one"
    return None


def _length_fault(actual: Floats, expected: Floats, limit: Limit, axis: Axis) -> str:
    """How many samples are missing or too many, and where: which of the others agree."""
    count = min(len(actual), len(expected))
    kind = "too many" if len(actual) > len(expected) else "missing"
    text = f"{axis.count(abs(len(actual) - len(expected)))} {kind}"
    first = _agreeing(actual[:count], expected[:count], limit)
    last = _agreeing(actual[::-1][:count], expected[::-1][:count], limit)
    place = axis.at(first, len(expected)) if first < len(expected) else ""
    if not count:
        return f"{text}: got {axis.count(len(actual))}, wanted {axis.count(len(expected))}"
    if first == count:
        return f"{text} at the end; the others agree"
    if last == count:
        return f"{text} at the start; the others agree"
    if first + last >= count:
        return f"{text} at {place}; the samples before and after agree"
    agreeing = max((first, "first"), (last, "last"))
    if agreeing[0] > count // 2:
        where = "end" if agreeing[1] == "first" else "start"
        return f"{text} towards the {where}; only the {agreeing[1]} {agreeing[0]:,} samples agree"
    return f"{text}; the others differ too, from {place}"


def _agreeing(actual: Floats, expected: Floats, limit: Limit) -> int:
    """The number of samples before the first that differs by more than the limit."""
    differs = np.abs(actual - expected) > limit.worst
    return int(differs.argmax()) if differs.any() else len(differs)


def _lag(actual: Floats, expected: Floats) -> tuple[int, float]:
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
