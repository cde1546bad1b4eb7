"""Inputs that the laws of the sampler probe it with: those that a generation loop can produce."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from conformance.judging.judge import Judge
from conformance.judging.tolerances import cumulative
from conformance.oracle.sampler import defined_ids, widest_intervals
from conformance.own_stages import SamplerUnderTest
from soprano.config import SamplingOptions

Logits = npt.NDArray[np.float32]

INF = math.inf
LARGEST_UNIFORM = math.nextafter(1.0, 0.0)


def sampling(
    temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, repetition_penalty: float = 1.0
) -> SamplingOptions:
    """Options with every filter off unless it is named."""
    return SamplingOptions(temperature, top_p, top_k, repetition_penalty)


def places(size: int, count: int) -> list[int]:
    """Ids spread over a vocabulary of `size`, with the first and the last."""
    return np.linspace(0, size - 1, count).astype(int).tolist()


def likely(size: int, values: Sequence[float], rest: float = -200.0) -> Logits:
    """Logits (V,) of the given values at `places`; every other id is too improbable to be drawn."""
    logits = (rest - np.arange(size) / size).astype(np.float32)
    logits[places(size, len(values))] = values
    return logits


def frequencies(
    sample: SamplerUnderTest,
    values: Sequence[float],
    options: SamplingOptions,
    history: Iterable[int] = (),
    count: int = 256,
) -> dict[int, int]:
    """How many of `count` uniforms, spread evenly over (0, 1), draw each id.

    Ids are indices of `values`, in the result and in the history. The order in which the draw runs
    over the ids has no effect.
    """
    ids = places(sample.size, len(values))
    logits, seen = likely(sample.size, values), [ids[i] for i in history]
    uniforms = ((index + 0.5) / count for index in range(count))
    drawn = Counter(sample(logits.copy(), list(seen), options, u) for u in uniforms)
    index_of = {i: index for index, i in enumerate(ids)}
    # An id that is none of the likely ones keeps its number, below 0.
    return {index_of.get(i, -1 - abs(i)): number for i, number in sorted(drawn.items())}


def judge_draws(
    judge: Judge,
    sample: SamplerUnderTest,
    logits: Logits,
    uniforms: Iterable[float],
    options: SamplingOptions,
    history: Sequence[int] = (),
) -> None:
    """Judge the ids that uniforms draw, within the rounding of float32 probabilities."""
    __tracebackhide__ = True
    draws = np.array(list(uniforms))
    error = cumulative(logits, options.temperature)
    lowest, highest = widest_intervals(logits, history, options, error)
    defined = defined_ids(logits, history, options, draws).tolist()
    actual = [int(sample(logits.copy(), list(history), options, u)) for u in draws.tolist()]
    expected = [
        i if 0 <= i < len(logits) and lowest[i] <= u <= highest[i] else wanted
        for i, u, wanted in zip(actual, draws.tolist(), defined, strict=True)
    ]
    judge.equal(f"ids under {options}", actual, expected)


def in_every_interval(logits: Logits, parts: Sequence[float] = (0.5,)) -> list[float]:
    """Uniforms at these parts of the interval of each id, without penalty, at temperature 1."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    stops = np.cumsum(weights) / weights.sum()
    starts = np.concatenate([[0.0], stops[:-1]])
    wide = stops - starts > 1e-6
    return [
        float(a + (b - a) * part)
        for a, b in zip(starts[wide], stops[wide], strict=True)
        for part in parts
    ]
