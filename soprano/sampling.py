"""Logits and history -> one id.

Order: repetition penalty, temperature, top-k, top-p, draw; all in float64.
The uniform that decides a draw is given by the caller, so any port can repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from soprano.config import SamplingOptions

Float64 = npt.NDArray[np.float64]


def sample(
    logits: npt.ArrayLike, history: Sequence[int], options: SamplingOptions, uniform: float | None
) -> int:
    """Choose the next id.

    Args:
        logits: (V,), any float type; -inf forbids an id.
        history: prompt and generated ids so far, for the repetition penalty.
        options: see `SamplingOptions`.
        uniform: the draw in [0, 1); ignored, and may be None, at temperature 0.

    Raises:
        ValueError: NaN or +inf among the logits, no id allowed, or a uniform outside [0, 1).
    """
    scores = penalize(_checked(logits), history, options.repetition_penalty)
    if options.temperature == 0:
        return int(np.argmax(scores))
    if uniform is None or not 0 <= uniform < 1:
        raise ValueError(f"uniform must be in [0, 1), got {uniform!r}")
    return draw(distribution(scores, options), uniform)


def penalize(logits: npt.ArrayLike, history: Sequence[int], penalty: float) -> Float64:
    """Scores (V,) with each id of the history made less likely, once however often it occurs.

    Positive logits are divided and negative ones multiplied (Keskar et al. 2019, section 4.1,
    in the form that `transformers` gave it).
    """
    scores = np.array(logits, dtype=np.float64)
    seen = np.unique(np.asarray(history, dtype=np.int64))
    if seen.size and not 0 <= seen[0] <= seen[-1] < scores.size:
        raise ValueError(f"history holds ids outside 0 to {scores.size - 1}")
    scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return scores


def distribution(scores: npt.ArrayLike, options: SamplingOptions) -> Float64:
    """Probabilities (V,) after temperature, top-k and top-p, renormalised.

    Ids are ranked by falling score, ties by rising id.
    """
    scores = np.asarray(scores, dtype=np.float64)
    with np.errstate(over="ignore"):  # towards temperature 0, all but the best become -inf
        weights = np.exp((scores - scores.max()) / options.temperature)
    ranked = _ranked(scores)
    if options.top_k:
        ranked = ranked[: options.top_k]
    if options.top_p < 1:
        mass = np.cumsum(weights[ranked])
        # The id at which the mass reaches top_p is the last one kept.
        ranked = ranked[: int(np.searchsorted(mass, options.top_p * mass[-1])) + 1]
    probabilities: Float64 = np.zeros_like(weights)
    probabilities[ranked] = weights[ranked] / weights[ranked].sum()
    return probabilities


def _ranked(scores: Float64) -> npt.NDArray[np.int64]:
    """Ids by falling score, ties by rising id; several times as fast as a stable sort."""
    ranked = np.argsort(-scores)
    falling = scores[ranked]
    tied = np.flatnonzero(falling[1:] == falling[:-1])
    if tied.size:
        for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1):
            ranked[run[0] : run[-1] + 2].sort()
    return ranked


def draw(probabilities: Float64, uniform: float) -> int:
    """The first id whose cumulative probability exceeds the uniform."""
    cumulative = np.cumsum(probabilities)
    chosen = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    # A uniform next to 1 may round up to the total: the last possible id then.
    return min(chosen, int(np.flatnonzero(probabilities)[-1]))


def uniforms(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """The draws of one utterance: doubles of Philox4x64-10, keyed by seed, sentence and attempt.

    The stream depends on nothing else, so that batches, backends and chunk sizes share it.
    """
    key = np.array([seed, (sentence << 32) + attempt], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random()


def _checked(logits: npt.ArrayLike) -> Float64:
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(f"logits must have shape (V,), got {scores.shape}")
    largest = scores.max()  # one pass tells all three: NaN is passed on
    if np.isnan(largest) or largest == np.inf:
        raise ValueError("logits hold NaN or +inf")
    if largest == -np.inf:
        raise ValueError("logits forbid every id")
    return scores
