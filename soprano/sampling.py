"""Logits and history -> one id.

Order: repetition penalty, temperature, top-k, top-p, draw; all in float64.
The caller passes the uniform that decides a draw, so that any port can reproduce it.
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
        logits: (V,), any float type; an id whose logit is -inf is never chosen.
        history: prompt and generated ids so far, for the repetition penalty.
        options: see `SamplingOptions`.
        uniform: a random number in [0, 1); at temperature 0 it is ignored and may be None.

    Raises:
        ValueError: the logits have NaN or +inf or only -inf, or the uniform is outside [0, 1).
    """
    penalized = penalize(_checked(logits), history, options.repetition_penalty)
    if options.temperature == 0:
        return int(np.argmax(penalized))
    if uniform is None or not 0 <= uniform < 1:
        raise ValueError(f"uniform must be in [0, 1), got {uniform!r}")
    return draw(distribution(penalized, options), uniform)


def penalize(logits: npt.ArrayLike, history: Sequence[int], penalty: float) -> Float64:
    """Logits (V,) after the repetition penalty, applied once to each id of the history.

    Positive logits are divided and negative ones multiplied (Keskar et al. 2019, section 4.1, as
    implemented in `transformers`).
    """
    logits = np.array(logits, dtype=np.float64)
    ids = np.unique(np.asarray(history, dtype=np.int64))
    if ids.size and not 0 <= ids[0] <= ids[-1] < logits.size:
        raise ValueError(f"history has ids outside 0 to {logits.size - 1}")
    logits[ids] = np.where(logits[ids] > 0, logits[ids] / penalty, logits[ids] * penalty)
    return logits


def distribution(logits: npt.ArrayLike, options: SamplingOptions) -> Float64:
    """Probabilities (V,) after temperature, top-k and top-p, renormalised.

    Ids are ranked by descending logit, ties by ascending id.
    """
    logits = np.asarray(logits, dtype=np.float64)
    with np.errstate(over="ignore"):  # near temperature 0 all but the largest become -inf
        weights = np.exp((logits - logits.max()) / options.temperature)
    ranked = _ranked(logits)
    if options.top_k:
        ranked = ranked[: options.top_k]
    if options.top_p < 1:
        cumulative = np.cumsum(weights[ranked])
        # The id that crosses top_p is the last one kept.
        ranked = ranked[: int(np.searchsorted(cumulative, options.top_p * cumulative[-1])) + 1]
    probabilities: Float64 = np.zeros_like(weights)
    probabilities[ranked] = weights[ranked] / weights[ranked].sum()
    return probabilities


def _ranked(logits: Float64) -> npt.NDArray[np.int64]:
    """Ids by descending logit, ties by ascending id; several times faster than a stable sort."""
    ranked = np.argsort(-logits)
    descending = logits[ranked]
    tied = np.flatnonzero(descending[1:] == descending[:-1])
    if tied.size:
        for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1):
            ranked[run[0] : run[-1] + 2].sort()
    return ranked


def draw(probabilities: Float64, uniform: float) -> int:
    """The first id whose cumulative probability exceeds the uniform."""
    cumulative = np.cumsum(probabilities)
    chosen = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    # A uniform just below 1 may round up to the total; it draws the last possible id.
    return min(chosen, int(np.flatnonzero(probabilities)[-1]))


def uniforms(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """The random stream of one utterance: doubles of Philox4x64-10.

    Its key is the seed, the sentence and the attempt, so that batch size, backend and chunk size
    have no effect.
    """
    key = np.array([seed, (sentence << 32) + attempt], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    while True:
        yield generator.random()


def _checked(logits: npt.ArrayLike) -> Float64:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"logits must have shape (V,), got {values.shape}")
    largest = values.max()  # NaN if any logit is NaN: one pass checks everything
    if np.isnan(largest) or largest == np.inf:
        raise ValueError("logits contain NaN or +inf")
    if largest == -np.inf:
        raise ValueError("all logits are -inf")
    return values
