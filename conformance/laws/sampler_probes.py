"""Options and uniforms that the laws of the sampler probe it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from conformance.judging.judge import Judge
from conformance.oracle.sampler import Intervals, intervals
from soprano.config import SamplingOptions

Sample = Callable[..., int]  # (logits, history, options, uniform) -> id

INF = math.inf
LARGEST_UNIFORM = math.nextafter(1.0, 0.0)


def sampling(
    temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, repetition_penalty: float = 1.0
) -> SamplingOptions:
    """Options with every filter off unless it is named."""
    return SamplingOptions(temperature, top_p, top_k, repetition_penalty)


def drawn_ids(
    sample: Sample, logits: npt.ArrayLike, options: SamplingOptions, count: int = 256
) -> list[int]:
    """The ids that `count` uniforms, spread evenly over [0, 1), draw, each once."""
    return sorted({sample(logits, [], options, index / count) for index in range(count)})


def judge_intervals(
    judge: Judge,
    sample: Sample,
    logits: npt.ArrayLike,
    history: Sequence[int],
    options: SamplingOptions,
    every: int = 1,
) -> None:
    """Judge the uniforms of each id, or of every n-th, that can be drawn."""
    expected = _probes(intervals(logits, history, options))[::every]
    actual = [sample(np.asarray(logits), history, options, uniform) for _, uniform in expected]
    judge.equal(f"ids under {options}", actual, [i for i, _ in expected])


def _probes(defined: Intervals) -> list[tuple[int, float]]:
    """(id, uniform) at both ends and in the middle of every interval.

    The ends keep a millionth of the interval from its edges, where float64 decides correctly.
    Intervals too narrow for that are left to the tests of edges.
    """
    return [
        (i, float(start + (stop - start) * Decimal(part)))
        for i, (start, stop) in defined.items()
        if stop - start > Decimal(2**-24)
        for part in (2**-20, 0.5, 1 - 2**-20)
    ]
