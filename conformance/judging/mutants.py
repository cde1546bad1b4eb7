"""Mutants: altered outputs that a comparison must reject, made from its expectation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.compare import Limit

Array = npt.NDArray[Any]


def of_floats(wanted: npt.NDArray[np.float64], limit: Limit, dtype: Any) -> dict[str, Array]:
    """Mutants of an array of floats, by name."""
    typed = wanted.astype(dtype)
    nan, moved = typed.copy(), typed.copy()
    nan.flat[-1] = np.nan
    moved.flat[-1] += 2 * limit.worst
    mutants = {
        "one NaN": nan,
        "one element moved by twice its limit": moved,
        "everything moved by twice the limit of the rms": typed + np.asarray(2 * limit.rms, dtype),
    }
    if np.any(wanted):
        mutants["zeros"] = np.zeros_like(typed)
    if wanted.size > 1 and np.ptp(wanted) > 0:
        mutants["a shift by one"] = np.roll(typed, 1)
    if wanted.ndim > 1 and len(wanted) > 1 and np.ptp(wanted, axis=0).any():
        mutants["rows in another order"] = np.roll(typed, 1, axis=0)
    if wanted.ndim > 1:
        mutants["the quietest row silenced"] = _without_quietest_row(typed)
    return mutants


def _without_quietest_row(typed: Array) -> Array:
    """The array with its quietest row that is not zero set to zero."""
    rows = typed.reshape(-1, typed.shape[-1])
    peaks = np.abs(rows).max(axis=1)
    peaks[peaks == 0] = np.inf
    silenced = rows.copy()
    if np.isfinite(peaks.min()):
        silenced[int(peaks.argmin())] = 0
    else:
        silenced += 1
    return silenced.reshape(typed.shape)


def of_bits(expected: Array) -> dict[str, Array]:
    """Mutants of an array that is compared by its bits, by name."""
    flipped = np.ascontiguousarray(expected).copy()
    flipped.reshape(-1).view(np.uint8)[-1] ^= 1
    return {"one bit flipped": flipped, "one element fewer": expected.reshape(-1)[:-1]}


def of_values(expected: Any) -> dict[str, Any]:
    """Mutants of an integer, a string or a sequence, by name."""
    if isinstance(expected, np.ndarray):
        return of_values(expected.tolist())
    if isinstance(expected, bool):
        return {"the opposite": not expected}
    if isinstance(expected, int):
        return {"one more": expected + 1}
    if isinstance(expected, str):
        return {"a letter more": expected + "x"}
    if isinstance(expected, (list, tuple)):
        mutants = {"an item more": type(expected)([*expected, 0])}
        if expected:
            mutants["an item fewer"] = expected[:-1]
            last = next(iter(of_values(expected[-1]).values()))
            mutants["another last item"] = type(expected)([*expected[:-1], last])
        return mutants
    return {"nothing": None if expected is not None else 0}
