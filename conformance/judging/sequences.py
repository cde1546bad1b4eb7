"""The first difference of two values, strings or sequences, in a few words."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

_CONTEXT, _LETTERS = 3, 16  # items before a difference; characters on either side of it
_WHOLE = 60  # characters of a value that is shown whole
_END = object()


def first_difference(a: Sequence[Any], b: Sequence[Any]) -> int | None:
    """The first index at which two sequences differ; None if they are equal.

    If one sequence is the beginning of the other, that is the length of the shorter one.
    """
    pairs = zip_longest(a, b, fillvalue=_END)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), None)


def difference(actual: Any, expected: Any, unit: str = "item") -> tuple[tuple[int, ...], str]:
    """Where two values that are not equal differ first, and how.

    `unit` is what the items of a sequence are.
    """
    if type(actual) is not type(expected):
        kinds = f"({type(actual).__name__} and {type(expected).__name__})"
        return (), f"got {short(actual)}, wanted {short(expected)} {kinds}"
    if isinstance(actual, str):
        return _of_strings(actual, expected)
    if not isinstance(actual, (list, tuple)):
        return (), f"got {short(actual)}, wanted {short(expected)}"
    if isinstance(actual, tuple) and len(repr(actual)) + len(repr(expected)) <= _WHOLE:
        index = first_difference(actual, expected)
        return () if index is None else (index,), f"got {actual}, wanted {expected}"
    return _of_sequences(actual, expected, unit)


def _of_sequences(
    actual: Sequence[Any], expected: Sequence[Any], unit: str
) -> tuple[tuple[int, ...], str]:
    index = first_difference(actual, expected)
    if index is None:  # equal in value, not in type
        return (), f"got {short(actual)}, wanted {short(expected)}"
    counts = f"{len(actual)} {unit}{'s' * (len(actual) != 1)}, wanted {len(expected)}"
    after = _after(expected, index, unit)
    if index == len(expected):
        more = len(actual) - index
        return (index,), f"{counts}: {more} too many{after}, the first is {short(actual[index])}"
    if index == len(actual):
        fewer = len(expected) - index
        return (index,), f"{counts}: {fewer} missing{after}, the first is {short(expected[index])}"
    deeper, inner = difference(actual[index], expected[index], unit)
    kind = unit if isinstance(expected[index], int) else "item"
    at = "" if len(expected) == 1 else f"{kind} {index} of {len(expected)}: "
    lengths = "" if len(actual) == len(expected) else f"; {counts}"
    return (index, *deeper), f"{at}{inner}{after}{lengths}"


def _after(expected: Sequence[Any], index: int, unit: str) -> str:
    """The items before an index, where they say something."""
    before = expected[max(index - _CONTEXT, 0) : index]
    if not before or any(isinstance(item, (list, tuple)) for item in before):
        return ""
    dots = "... " if index > _CONTEXT else ""
    return f" after {dots}{', '.join(map(short, before))}"


def _of_strings(actual: str, expected: str) -> tuple[tuple[int, ...], str]:
    index = first_difference(actual, expected)
    assert index is not None
    if len(actual) + len(expected) <= _WHOLE:
        at, shown = "", (visible(actual), visible(expected))
    else:
        at = f"character {index} of {len(expected)}: "
        shown = around(actual, index), around(expected, index)
    lengths = ""
    if at and len(actual) != len(expected):
        lengths = f"; {len(actual):,} characters, wanted {len(expected):,}"
    return (index,), f"{at}got '{shown[0]}', wanted '{shown[1]}'{lengths}"


def around(text: str, index: int) -> str:
    """The characters around an index."""
    start, stop = max(index - _LETTERS, 0), index + _LETTERS
    left, right = "..." if start else "", "..." if stop < len(text) else ""
    return f"{left}{visible(text[start:stop])}{right}"


def visible(text: str) -> str:
    """A text with the code points of the characters that cannot be seen."""
    return "".join(c if _is_visible(c) else f"<U+{ord(c):04X}>" for c in text)


def _is_visible(character: str) -> bool:
    # Other, separators except the space, and combining marks.
    return character == " " or unicodedata.category(character)[0] not in "CZM"


def short(value: Any) -> str:
    """A value's representation, cut if it is long; the shape of an array."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    text = f"'{visible(value)}'" if isinstance(value, str) else repr(value)
    return text if len(text) <= _WHOLE else f"{text[:_WHOLE]}..."
