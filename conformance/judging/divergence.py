"""Where two sequences of ids diverge, and how close the decision for an id was."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.config import SamplingOptions
from soprano.sampling import distribution, draw, penalize

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
    """The distance of the decision for one id from the decision for another.

    Greedy: the gap between the two highest logits (V,) after the repetition penalty. Sampled: the
    distance of the uniform from the nearer edge of the chosen id's interval of the CDF.
    """
    penalized = penalize(logits, history, options.repetition_penalty)
    if options.temperature == 0:
        second, first = np.sort(penalized)[-2:]
        return float(first - second)
    assert uniform is not None
    probabilities = distribution(penalized, options)
    chosen = draw(probabilities, uniform)
    upper = float(np.cumsum(probabilities)[chosen])
    return min(abs(upper - uniform), abs(uniform - (upper - float(probabilities[chosen]))))
