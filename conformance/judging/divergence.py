"""Where two sequences of ids diverge, and whether that is a tie or a defect.

A divergence is a tie if the margin of the decision at the first difference lies within the
measured error of the logits; otherwise it is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.sampler import decide
from soprano.config import SamplingOptions

if TYPE_CHECKING:
    from conformance.judging.judge import Judge

_END = object()


def first_difference(a: Sequence[Any], b: Sequence[Any]) -> int | None:
    """The first index at which two sequences differ; None if they are equal.

    If one sequence is the beginning of the other, that is the length of the shorter one.
    """
    pairs = zip_longest(a, b, fillvalue=_END)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), None)


def decision_margin(
    logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions, uniform: float | None
) -> float:
    """The distance of the decision for one id from another; see `conformance.oracle.sampler`."""
    return decide(logits, history, options, uniform).margin


def judge_ids(
    judge: Judge,
    actual: Sequence[int],
    expected: Sequence[int],
    margin: Callable[[int], float],
    excused: float,
    *,
    wrong: float = np.inf,
) -> bool:
    """Judge two sequences of ids, each with its `[STOP]`; returns whether they diverge by a tie.

    Args:
        judge: records the comparison; a defect fails.
        actual: the ids of one run.
        expected: the ids of the other run.
        margin: gives the margin of the decision at an index.
        excused: the largest margin of a tie; see `tolerances.tie_margin`.
        wrong: the margin of a defect.
    """
    __tracebackhide__ = True
    index = first_difference(actual, expected)
    if index is None or index == min(len(actual), len(expected)):
        judge.equal("ids", list(actual), list(expected))
        return False
    judge.below(f"margin of id {index}", margin(index), excused, index + 1, wrong=wrong)
    return True
