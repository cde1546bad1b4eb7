"""Arrays of the same values that lie in memory in another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.judge import Judge

Array = npt.NDArray[Any]
NAMES = ("stride", "contiguous", "read-only", "writ", "order")  # of a memory order, in a message


def memory_orders(array: Array) -> Iterator[tuple[str, Array]]:
    """The array in each order of memory that the protocol allows, with its name."""
    every = (slice(None, None, -1),) * array.ndim
    yield "C order", np.array(array, order="C")
    yield "Fortran order", np.array(array, order="F")
    yield "reversed order", np.array(array[every], order="C")[every]
    yield "a strided view", _view(array, step=2)
    yield "a view inside a larger array", _view(array, step=1)
    # The axes of memory in turn: (B, T, H) lies as (T, H, B).
    yield "the order of a transposed array", np.moveaxis(np.moveaxis(array, 0, -1).copy(), -1, 0)
    read_only = array.copy()
    read_only.flags.writeable = False
    yield "a read-only array", read_only


def _view(array: Array, step: int) -> Array:
    """A view of an array that is larger on every axis and filled with other values."""
    # Ids outside the vocabulary, and hidden states that are no numbers.
    other = np.nan if array.dtype.kind == "f" else -1
    larger = np.full([step * size + 2 for size in array.shape], other, array.dtype)
    inside = (slice(1, -1, step),) * array.ndim
    larger[inside] = array
    return larger[inside]


@contextmanager
def unchanged(judge: Judge, given: Array, name: str) -> Iterator[None]:
    """A call modifies neither an array that it is given nor what surrounds it in memory."""
    __tracebackhide__ = True
    whole = given
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    before = whole.copy()
    yield
    judge.bits(f"{name}: the argument and its surroundings after the call", whole, before)


def accepted(call: Callable[[], Any]) -> Any:
    """The result of a call; None if it rejects an array with a message that names its memory order.

    For arguments that a port's own loop gives in one memory order only.
    """
    try:
        return call()
    except Exception as error:  # whatever a port raises
        if any(name in str(error).lower() for name in NAMES):
            return None
        raise
