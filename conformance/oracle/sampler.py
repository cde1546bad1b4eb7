"""The sampler and its random streams by their definitions.

Decisions are computed in float64, intervals in decimals of 40 digits, random streams in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soprano.config import SamplingOptions

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Intervals = dict[int, tuple[Decimal, Decimal]]

_MASK = 2**64 - 1


def penalize(scores: Float64, history: Ints, penalty: float) -> Float64:
    """Divide the positive and multiply the negative scores of the ids in the history."""
    scores, seen = scores.copy(), np.unique(history)
    scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return scores


def softmax_weights(scores: Float64, temperature: float) -> Float64:
    """The probabilities up to a common factor; the largest is 1."""
    with np.errstate(over="ignore"):  # a tiny temperature gives -inf for all but the best
        return np.exp((scores - scores.max()) / temperature)


def top_k(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
    """The ranked ids that top-k keeps."""
    return ranked[: options.top_k] if options.top_k else ranked


def top_p(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
    """The ranked ids that top-p keeps: the last one is the id whose cumulative mass reaches p."""
    if options.top_p == 1:
        return ranked
    mass = np.cumsum(softmax_weights(scores, options.temperature)[ranked])
    return ranked[: int(np.searchsorted(mass, options.top_p * mass[-1])) + 1]


def _edges(scores: Float64, options: SamplingOptions) -> tuple[Ints, Float64]:
    """The ids that can be drawn, ascending, and the edges of their intervals of uniforms."""
    ranked = np.argsort(-scores, kind="stable")
    kept = np.sort(top_p(top_k(ranked, scores, options), scores, options))
    weights = softmax_weights(scores, options.temperature)[kept]
    return kept, np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])


def defined_ids(
    logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions, uniforms: Float64
) -> Ints:
    """The id that each uniform draws."""
    scores = _penalized(logits, history, options)
    kept, edges = _edges(scores, options)
    return kept[np.searchsorted(edges[1:-1], uniforms, side="right")]


def _penalized(logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions) -> Float64:
    seen = np.asarray(history, np.int64)
    return penalize(np.array(logits, np.float64), seen, options.repetition_penalty)


def widest_intervals(
    logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions, error: float
) -> tuple[Float64, Float64]:
    """The lowest and the highest uniforms that may draw each id (V,).

    The cumulative probabilities may be off by `error`, at top-p and at the draw. An id that cannot
    be drawn has no uniforms: from inf to -inf.
    """
    scores = _penalized(logits, history, options)
    lowest, highest = np.full(len(scores), np.inf), np.full(len(scores), -np.inf)
    ps = (options.top_p - error, options.top_p + error) if options.top_p < 1 else (1.0,)
    for p in ps:
        kept, edges = _edges(scores, replace(options, top_p=min(max(p, 1e-12), 1.0)))
        lowest[kept] = np.minimum(lowest[kept], edges[:-1] - error)
        highest[kept] = np.maximum(highest[kept], edges[1:] + error)
    return lowest, highest


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
    scores = _penalized(logits, history, options)
    if options.temperature == 0:
        ranked = np.argsort(-scores, kind="stable")
        return Decision(int(ranked[0]), float(scores[ranked[0]] - scores[ranked[1]]))
    assert uniform is not None
    kept, edges = _edges(scores, options)
    index = int(np.searchsorted(edges[1:-1], uniform, side="right"))
    margin = min(uniform - edges[index], edges[index + 1] - uniform)
    return Decision(int(kept[index]), float(margin))


def intervals(
    logits: Sequence[float], history: Sequence[int], options: SamplingOptions
) -> Intervals:
    """The uniforms [start, stop) that draw each id that can be drawn."""
    scores, penalty = [float(logit) for logit in logits], options.repetition_penalty
    for i in set(history):
        scores[i] = scores[i] / penalty if scores[i] > 0 else scores[i] * penalty
    possible = [i for i, score in enumerate(scores) if score > float("-inf")]
    ranked = sorted(possible, key=lambda i: (-scores[i], i))
    if options.top_k:
        ranked = ranked[: options.top_k]
    with localcontext(prec=40):
        largest, temperature = Decimal(scores[ranked[0]]), Decimal(options.temperature)
        weights = {i: ((Decimal(scores[i]) - largest) / temperature).exp() for i in ranked}
        required = Decimal(options.top_p) * sum(weights.values())
        total, kept = Decimal(0), []
        for i in ranked:
            kept.append(i)
            total += weights[i]
            if total >= required and options.top_p < 1:
                break
        result, start = Intervals(), Decimal(0)
        for i in sorted(kept):
            result[i] = (start, start + weights[i] / total)
            start = result[i][1]
    return result


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Four words of Philox4x64-10 (Salmon et al. 2011, Parallel random numbers)."""
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & _MASK, (key[1] + 0xBB67AE8584CAA73B) & _MASK]
    return counter


def random_stream(seed: int, sentence: int, attempt: int, count: int) -> list[float]:
    """The first doubles of a stream: the upper 53 bits of each word, blocks counted from 1."""
    words: list[int] = []
    while len(words) < count:
        words += philox([len(words) // 4 + 1, 0, 0, 0], [seed, sentence * 2**32 + attempt])
    return [(word >> 11) / 2**53 for word in words[:count]]
