"""Where two sequences of ids diverge, and whether that is a tie or a defect.

A divergence is a tie if the margin of the decision at the first difference lies within the
measured error of the logits; otherwise it is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from conformance.judging.sequences import difference, first_difference
from conformance.oracle.sampler import decide
from soprano.config import SamplingOptions

if TYPE_CHECKING:
    from conformance.judging.judge import Judge


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
    size = margin(index)
    _, fault = difference(list(actual), list(expected), "id")
    fault += f" (margin {size:.3g}; that of a tie is at most {excused:.3g})"
    judge.below("ids and margin", size, excused, index + 1, wrong=wrong, fault=fault)
    return True
