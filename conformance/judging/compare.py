"""Compares outputs with expectations: what differs, where, and by how much of its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.places import Places, Unnamed, words
from conformance.judging.sequences import difference

Floats = npt.NDArray[np.float64]
UNNAMED = Unnamed()


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
    """The evidence of one comparison; `fault` is None if it passed.

    A failure without a size, such as another shape, has no errors: they are 0.
    An exact comparison has no limits.
    """

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
    place: str = ""  # `where` in the terms of the pipeline
    quantiles: tuple[float, ...] = ()  # of the errors, in noise floors, if there is one

    def used(self) -> float:
        """The largest error relative to its limit; infinite for a failure without a size."""
        errors = ((self.worst, self.limit), (self.rms, self.rms_limit), (self.row, self.row_limit))
        ratios = [error / limit for error, limit in errors if limit]
        if self.fault is not None and (not ratios or max(ratios) <= 1):
            return float("inf")
        return max(ratios, default=0.0)

    def __str__(self) -> str:
        if self.fault is None:
            text = "within limits" if self.limit else "equal"
            text = f"{text}; {self.elements:,} element{'s' * (self.elements != 1)}"
            return f"{self.quantity}: {', '.join([text, *self._sizes()])}"
        measured = self.rms_limit and np.isfinite(self.used())
        sizes = f"; {', '.join(self._sizes())}" if measured else ""
        return f"{self.quantity}: {self.fault}{sizes}"

    def _sizes(self) -> Iterator[str]:
        sizes = [("worst", self.worst, self.limit), ("rms", self.rms, self.rms_limit)]
        if self.row != self.rms:
            sizes.append(("rms of a row", self.row, self.row_limit))
        return (f"{name} {size:.3g} (limit {limit:.3g})" for name, size, limit in sizes if limit)


def of_limit(ratio: float) -> str:
    """An error relative to its limit: a percentage up to 100, else a multiple."""
    if ratio <= 1:
        return f"{ratio:.0%} of its limit"
    return f"{ratio:,.0f} times its limit" if 10 <= ratio < 1e6 else f"{ratio:.3g} times its limit"


def floats(
    quantity: str,
    actual: Any,
    expected: npt.ArrayLike,
    limit: Limit,
    dtype: Any = np.float32,
    places: Places = UNNAMED,
) -> Comparison:
    """Every element is within the limits. NaN and Inf fail, on either side."""
    wanted = np.asarray(expected, np.float64)
    fault = _form_fault(actual, wanted.shape, dtype, places)
    if fault is None and not np.isfinite(wanted).all():
        fault = "the expectation is not finite"
    if fault:
        return Comparison(quantity, 0, 0.0, limit.worst, fault=fault, floor=limit.floor or 0.0)
    if not np.isfinite(actual).all():
        return _not_finite(quantity, actual, limit, places)
    error = np.abs(actual.astype(np.float64) - wanted)
    where, worst, rms = _position(error.argmax(), error.shape), float(error.max()), _rms(error)
    row = float(row_rms(error).max()) if limit.row is not None else 0.0
    fault = None
    if worst > limit.worst:
        size = of_limit(worst / limit.worst)
        values = f"got {actual[where]:.6g}, wanted {wanted[where]:.6g}"
        fault = f"off by {size}{_at(places, where, error.shape)}: {values}"
        fault += f"; {_of(error > limit.worst)} beyond it"
    elif rms > limit.rms:
        fault = f"the rms error of {error.size:,} elements is {of_limit(rms / limit.rms)}"
    elif limit.row is not None and row > limit.row:
        where = _position(row_rms(error).argmax(), error.shape[:-1])
        at = _at(places, where, error.shape)
        fault = f"the rms error of a row is {of_limit(row / limit.row)}{at}"
    sizes = (worst, limit.worst, rms, limit.rms, row, limit.row or 0.0)
    place = places.at(where, error.shape)
    return Comparison(quantity, error.size, *sizes, where, fault, limit.floor or 0.0, place)


def _not_finite(
    quantity: str, actual: npt.NDArray[Any], limit: Limit, places: Places
) -> Comparison:
    bad = ~np.isfinite(actual)
    where = _position(bad.argmax(), bad.shape)
    fault = f"{_of(bad)} not finite, the first{_at(places, where, bad.shape)}: {actual[where]}"
    place = places.at(where, bad.shape)
    sizes = (0.0, limit.worst, 0.0, limit.rms, 0.0, limit.row or 0.0)
    return Comparison(quantity, bad.size, *sizes, where, fault, limit.floor or 0.0, place)


def _position(index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(index), shape))


def _at(places: Places, where: tuple[int, ...], shape: tuple[int, ...]) -> str:
    place = places.at(where, shape)
    return f" at {place}" if place else ""


def _of(chosen: npt.NDArray[np.bool_]) -> str:
    """How many elements are chosen, with a verb."""
    count = int(np.count_nonzero(chosen))
    return f"{count:,} of {chosen.size:,} elements {'is' if count == 1 else 'are'}"


def _rms(error: Floats) -> float:
    """The root mean square; errors beyond 1e150 do not overflow."""
    scale = float(error.max()) or 1.0
    return scale * float(np.sqrt(np.mean((error / scale) ** 2)))


def row_rms(error: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The root mean square over the last axis."""
    scale = float(error.max()) or 1.0
    squares: npt.NDArray[np.floating] = scale * np.sqrt(np.mean((error / scale) ** 2, axis=-1))
    return squares


def number(
    quantity: str, value: float, limit: float, elements: int = 1, fault: str = ""
) -> Comparison:
    """A measured value is at most its limit; NaN and Inf exceed every limit.

    `fault` states what a value beyond the limit means.
    """
    if value <= limit:
        return Comparison(quantity, elements, float(value), float(limit))
    if not np.isfinite(value):
        return Comparison(quantity, elements, 0.0, float(limit), fault=fault or f"got {value}")
    fault = fault or f"{value:.4g} exceeds the limit {limit:.4g}"
    return Comparison(quantity, elements, float(value), float(limit), fault=fault)


def bits(
    quantity: str, actual: Any, expected: npt.NDArray[Any], places: Places = UNNAMED
) -> Comparison:
    """The same shape, type and bits."""
    if fault := _form_fault(actual, expected.shape, expected.dtype, places):
        return Comparison(quantity, 0, 0.0, 0.0, fault=fault)
    width = f"V{actual.dtype.itemsize}"
    differs = np.ascontiguousarray(actual).view(width) != np.ascontiguousarray(expected).view(width)
    if not differs.any():
        return Comparison(quantity, actual.size, 0.0, 0.0)
    where = _position(differs.argmax(), differs.shape)
    count = int(np.count_nonzero(differs))
    fault = (
        f"{count:,} of {differs.size:,} elements differ, the first"
        f"{_at(places, where, differs.shape)}: got {actual[where]}, wanted {expected[where]}"
    )
    if actual.dtype.kind == "f" and np.isfinite([actual, expected]).all():
        largest = np.abs(actual.astype(np.float64) - expected).max()
        fault += f"; the largest difference is {largest:.3g}"
    place = places.at(where, differs.shape)
    return Comparison(quantity, actual.size, 0.0, 0.0, where=where, fault=fault, place=place)


def shape(
    quantity: str, actual: Any, expected: tuple[int, ...], places: Places = UNNAMED
) -> Comparison:
    """An array of a shape."""
    got = tuple(actual.shape) if type(actual) is np.ndarray else None
    if got is None:
        fault: str | None = f"got a {type(actual).__name__}, wanted an array"
    else:
        fault = None if got == expected else places.misfit(got, expected)
    return Comparison(quantity, max(len(expected), 1), 0.0, 0.0, fault=fault)


def values(quantity: str, actual: Any, expected: Any) -> Comparison:
    """Exact equality of integers, strings, and sequences of them; floats are not accepted."""
    if isinstance(actual, np.ndarray) or isinstance(expected, np.ndarray):
        got, wanted = np.asarray(actual), np.asarray(expected)
        if got.dtype.kind not in "biuSU" or wanted.dtype.kind not in "biuSU":
            raise TypeError(f"{quantity}: floats are compared with a limit or by their bits")
        actual, expected = got.tolist(), wanted.tolist()
    # An empty result is evidence too: it counts as one element.
    size = max(len(expected), 1) if isinstance(expected, (list, tuple, str)) else 1
    if type(actual) is type(expected) and actual == expected:
        return Comparison(quantity, size, 0.0, 0.0)
    unit = "id" if "ids" in words(quantity) else "item"
    where, fault = difference(actual, expected, unit)
    return Comparison(quantity, size, 0.0, 0.0, where=where, fault=fault)


def _form_fault(actual: Any, wanted: tuple[int, ...], dtype: Any, places: Places) -> str | None:
    if type(actual) is not np.ndarray:  # a subclass may change what a comparison does
        return f"got a {type(actual).__name__}, wanted an array"
    if actual.shape != wanted:
        return places.misfit(actual.shape, wanted)
    if actual.dtype != dtype:
        return f"dtype {actual.dtype}, wanted {np.dtype(dtype)}"
    if not actual.size:
        return "nothing to compare: the arrays are empty"
    return None
