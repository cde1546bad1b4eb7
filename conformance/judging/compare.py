"""Compares outputs with expectations: what differs, where, and by how much of its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.divergence import first_difference


@dataclass(frozen=True)
class Limit:
    """The largest accepted error, in the data's unit: rms, of any element, and rms of any row.

    A row is the last axis: an error of one row in many is lost in the rms of all elements.
    `floor` is the noise floor from which the limit was derived, if any.
    """

    rms: float
    worst: float
    row: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        sizes = (self.rms, self.worst, self.rms if self.row is None else self.row)
        if not all(0 < size < np.inf for size in sizes):
            raise ValueError(f"a limit must be positive and finite, got {self}")


@dataclass(frozen=True)
class Comparison:
    """The evidence of one comparison; `fault` is None if it passed."""

    quantity: str
    elements: int
    worst: float
    limit: float
    rms: float = 0.0
    rms_limit: float = 0.0
    row: float = 0.0
    row_limit: float = 0.0
    where: tuple[int, ...] = ()
    fault: str | None = None
    floor: float = 0.0

    def used(self) -> float:
        """The largest error relative to its limit; infinite for a failure without a size."""
        errors = ((self.worst, self.limit), (self.rms, self.rms_limit), (self.row, self.row_limit))
        ratios = [error / limit for error, limit in errors if limit]
        if self.fault is not None and (not ratios or max(ratios) <= 1):
            return float("inf")
        return max(ratios, default=0.0)

    def __str__(self) -> str:
        sizes = f"worst {self.worst:.3g} (limit {self.limit:.3g})"
        if self.rms_limit:
            sizes += f", rms {self.rms:.3g} (limit {self.rms_limit:.3g})"
        if self.row_limit:
            sizes += f", rms of a row {self.row:.3g} (limit {self.row_limit:.3g})"
        state = self.fault or "within limits"
        return f"{self.quantity}: {state}; {self.elements} elements, {sizes} at {self.where}"


def floats(
    quantity: str, actual: Any, expected: npt.ArrayLike, limit: Limit, dtype: Any = np.float32
) -> Comparison:
    """Every element is within the limits. NaN and Inf fail, on either side."""
    wanted = np.asarray(expected, np.float64)
    if fault := _form_fault(actual, wanted.shape, dtype):
        return Comparison(quantity, 0, np.inf, limit.worst, fault=fault)
    if not np.isfinite(wanted).all():
        return Comparison(quantity, 0, np.inf, limit.worst, fault="the expectation is not finite")
    bad = ~np.isfinite(actual)
    error = np.abs(np.where(bad, np.inf, actual.astype(np.float64) - wanted))
    where = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    worst, rms = float(error[where]), float(np.sqrt(np.mean(error**2)))
    row = float(row_rms(error).max()) if limit.row is not None else 0.0
    fault = None
    if bad.any():
        fault = f"{int(bad.sum())} elements are not finite"
    elif worst > limit.worst:
        fault = f"an element is {worst / limit.worst:.3g} times its limit off"
    elif rms > limit.rms:
        fault = f"the rms error is {rms / limit.rms:.3g} times its limit"
    elif limit.row is not None and row > limit.row:
        where = tuple(int(i) for i in np.unravel_index(row_rms(error).argmax(), error.shape[:-1]))
        fault = f"the rms error of a row is {row / limit.row:.3g} times its limit"
    sizes = (worst, limit.worst, rms, limit.rms, row, limit.row or 0.0)
    return Comparison(quantity, error.size, *sizes, where, fault, limit.floor or 0.0)


def row_rms(error: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The root mean square over the last axis."""
    squares: npt.NDArray[np.floating] = np.sqrt(np.mean(error**2, axis=-1))
    return squares


def number(quantity: str, value: float, limit: float, elements: int = 1) -> Comparison:
    """A measured value is at most its limit; NaN exceeds every limit."""
    fault = None if value <= limit else f"{value:.4g} exceeds {limit:.4g}"
    return Comparison(quantity, elements, float(value), float(limit), fault=fault)


def bits(quantity: str, actual: Any, expected: npt.NDArray[Any]) -> Comparison:
    """The same shape, type and bits."""
    if fault := _form_fault(actual, expected.shape, expected.dtype):
        return Comparison(quantity, 0, np.inf, 0, fault=fault)
    width = f"V{actual.dtype.itemsize}"
    differs = np.ascontiguousarray(actual).view(width) != np.ascontiguousarray(expected).view(width)
    count = int(differs.sum())
    where = tuple(int(i) for i in np.argwhere(differs)[0]) if count else ()
    fault = f"{count} elements differ" if count else None
    return Comparison(quantity, actual.size, float(count), 0, where=where, fault=fault)


def values(quantity: str, actual: Any, expected: Any) -> Comparison:
    """Exact equality of integers, strings, and sequences of them; floats are not accepted."""
    if isinstance(actual, np.ndarray) or isinstance(expected, np.ndarray):
        got, wanted = np.asarray(actual), np.asarray(expected)
        if got.dtype.kind not in "biuSU" or wanted.dtype.kind not in "biuSU":
            raise TypeError(f"{quantity}: floats are compared with a limit or by their bits")
        actual, expected = got.tolist(), wanted.tolist()
    size = len(expected) if isinstance(expected, (list, tuple, str)) else 1
    if type(actual) is not type(expected) or actual != expected:
        where = _where(actual, expected)
        fault = f"got {short(actual)}, wanted {short(expected)}"
        return Comparison(quantity, size, np.inf, 0, where=where, fault=fault)
    if not size:
        # An empty result is evidence too: it counts as one element.
        size = 1
    return Comparison(quantity, size, 0, 0)


def _form_fault(actual: Any, shape: tuple[int, ...], dtype: Any) -> str | None:
    if not isinstance(actual, np.ndarray):
        return f"got a {type(actual).__name__}, wanted an array"
    if actual.shape != shape:
        return f"shape {actual.shape}, wanted {shape}"
    if actual.dtype != dtype:
        return f"dtype {actual.dtype}, wanted {np.dtype(dtype)}"
    if not actual.size:
        return "nothing to compare: the arrays are empty"
    return None


def _where(actual: Any, expected: Any) -> tuple[int, ...]:
    if not isinstance(actual, (list, tuple, str)) or not isinstance(expected, (list, tuple, str)):
        return ()
    index = first_difference(actual, expected)
    return () if index is None else (index,)


def short(value: Any) -> str:
    """The first 200 characters of a value's representation."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
