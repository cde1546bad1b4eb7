"""The sampler and its random streams by their definitions.

Intervals are computed in decimals of 60 digits, random streams in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

from soprano.config import SamplingOptions

Intervals = dict[int, tuple[Decimal, Decimal]]

_MASK = 2**64 - 1


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
    with localcontext(prec=60):
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
