"""The sampler by its definition, in decimals of 60 digits: which uniforms draw which id."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from soprano.config import SamplingOptions

Sample = Any  # (logits, history, options, uniform) -> id

EXPLORED = examples(100)
NEXT_TO_ONE = math.nextafter(1.0, 0.0)
INF = math.inf


def options(
    temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, repetition_penalty: float = 1.0
) -> SamplingOptions:
    """Every filter off unless it is named."""
    return SamplingOptions(temperature, top_p, top_k, repetition_penalty)


def intervals(
    logits: Sequence[float], history: Sequence[int], how: SamplingOptions
) -> dict[int, tuple[Decimal, Decimal]]:
    """The uniforms [from, to) that draw each id that may be drawn, by definition."""
    scores = [float(logit) for logit in logits]
    for i in set(history):
        above = scores[i] > 0
        scores[i] = (
            scores[i] / how.repetition_penalty if above else scores[i] * how.repetition_penalty
        )
    ranked = sorted((i for i, s in enumerate(scores) if s > -INF), key=lambda i: (-scores[i], i))
    if how.top_k:
        ranked = ranked[: how.top_k]
    with localcontext(prec=60):
        best, temperature = Decimal(scores[ranked[0]]), Decimal(how.temperature)
        weights = {i: ((Decimal(scores[i]) - best) / temperature).exp() for i in ranked}
        wanted, mass, kept = Decimal(how.top_p) * sum(weights.values()), Decimal(0), []
        for i in ranked:
            kept.append(i)
            mass += weights[i]
            if mass >= wanted and how.top_p < 1:
                break
        found, edge = {}, Decimal(0)
        for i in sorted(kept):
            found[i] = (edge, edge + weights[i] / mass)
            edge = found[i][1]
    return found


def probes(found: dict[int, tuple[Decimal, Decimal]]) -> list[tuple[int, float]]:
    """(id, uniform) at both ends and in the middle of every interval.

    The ends keep a millionth of the interval from its edges, where float64 decides correctly;
    intervals too narrow for that are left to the tests of edges.
    """
    return [
        (i, float(low + (high - low) * Decimal(part)))
        for i, (low, high) in found.items()
        if high - low > Decimal(2**-24)
        for part in (2**-20, 0.5, 1 - 2**-20)
    ]


def drawn(sample: Sample, logits: Any, how: SamplingOptions, count: int = 256) -> list[int]:
    """The ids that uniforms spread evenly over [0, 1) draw, each once."""
    return sorted({sample(logits, [], how, place / count) for place in range(count)})


def judge_intervals(
    judge: Judge,
    sample: Sample,
    logits: Any,
    history: list[int],
    how: SamplingOptions,
    every: int = 1,
) -> None:
    """Judges the uniforms of each id, or of every n-th, that may be drawn."""
    wanted = probes(intervals(logits, history, how))[::every]
    actual = [sample(np.asarray(logits), history, how, uniform) for _, uniform in wanted]
    judge.equal(f"ids under {how}", actual, [i for i, _ in wanted])
