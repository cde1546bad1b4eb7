"""The decision for one id by its definition in float64, and how close it was to another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soprano.config import SamplingOptions


class Decision(NamedTuple):
    """An id and its margin, the distance of the decision from the decision for another id.

    Greedy: the gap of the two highest logits after the repetition penalty. Sampled: the distance
    of the uniform from the nearer edge of the id's interval of the cumulative distribution.
    """

    id: int
    margin: float


def decide(
    logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions, uniform: float | None
) -> Decision:
    """The id that logits (V,) give after a history."""
    scores = np.array(logits, np.float64)
    for i in set(history):
        penalty = options.repetition_penalty
        scores[i] = scores[i] / penalty if scores[i] > 0 else scores[i] * penalty
    ranked = np.argsort(-scores, kind="stable")
    if options.temperature == 0:
        return Decision(int(ranked[0]), float(scores[ranked[0]] - scores[ranked[1]]))
    assert uniform is not None
    weights = np.exp((scores - scores.max()) / options.temperature)
    if options.top_k:
        ranked = ranked[: options.top_k]
    if options.top_p < 1:
        mass = np.cumsum(weights[ranked])
        ranked = ranked[: int(np.searchsorted(mass, options.top_p * mass[-1])) + 1]
    kept = np.sort(ranked)
    edges = np.concatenate([[0.0], np.cumsum(weights[kept]) / weights[kept].sum()])
    index = int(np.searchsorted(edges[1:-1], uniform, side="right"))
    return Decision(
        int(kept[index]), float(min(uniform - edges[index], edges[index + 1] - uniform))
    )
