"""Checks of another program's outputs; a check that fails raises `AssertionError`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

from comparisons.agreement.peer_client import TextResult, Utterance
from comparisons.agreement.reference import Measured
from conformance.judging import tolerances
from conformance.judging.divergence import decision_margin
from conformance.judging.judge import Judge
from soprano.config import ModelConfig, SamplingOptions
from soprano.sampling import distribution, penalize

# At temperature 0 soprano-tts samples at 0.001. With a margin of a few thousandths its choice is
# random; with ten times the temperature another id has a probability of e**-10.
NARROW = 0.01
GREEDY = SamplingOptions(temperature=0.0, top_p=0.95, repetition_penalty=1.2)


def same_text(judge: Judge, ours: TextResult, theirs: TextResult) -> None:
    """The sentences that become prompts, and the ids of the prompts, are equal."""
    judge.equal("prompts", ours.sentences, theirs.sentences)
    judge.equal("prompt ids", ours.prompts, theirs.prompts)


def same_floats(
    judge: Judge,
    quantity: str,
    theirs: npt.NDArray[np.float32],
    ours: Measured,
    config: ModelConfig,
) -> None:
    """Their output is within the limit of a float32 backend."""
    limit = tolerances.against_oracle(quantity, ours.floor, ours.expected, config)
    judge.close(quantity, theirs, ours.expected, limit)


def greedy_margins(logits: npt.ArrayLike, prompt: Sequence[int], ids: Sequence[int]) -> list[float]:
    """The decision margin of each id, from the logits (N, V) before it."""
    return [
        decision_margin(row, [*prompt, *ids[:step]], GREEDY, None)
        for step, row in enumerate(np.asarray(logits))
    ]


def same_ids(judge: Judge, theirs: Utterance, ours: Sequence[int], margins: Sequence[float]) -> int:
    """Free-running ids are equal up to the first narrow margin; returns how many were compared."""
    narrow = (step for step, margin in enumerate(margins) if margin < NARROW)
    count = next(narrow, len(theirs.ids))
    # Without a narrow margin the lengths must be equal too.
    cut = count if count < len(theirs.ids) else None
    if count:  # else nothing is compared, which the table counts as a failure
        judge.equal("free-running ids", list(ours[:cut]), theirs.ids[:cut])
    return count


def probabilities(
    logits: npt.NDArray[np.float32],
    prompt: Sequence[int],
    ids: Sequence[int],
    options: SamplingOptions,
) -> npt.NDArray[np.float64]:
    """The probabilities (N, V) from which each of N ids is sampled, from the logits before it."""
    histories = ([*prompt, *ids[:step]] for step in range(len(logits)))
    penalised = map(penalize, logits, histories, repeat(options.repetition_penalty))
    return np.stack([distribution(row, options) for row in penalised])


def same_distribution(judge: Judge, theirs: Utterance, options: SamplingOptions) -> None:
    """Each id was sampled after penalty, temperature, top-k and top-p, in this order."""
    assert theirs.probabilities is not None
    expected = probabilities(theirs.logits, theirs.prompt, theirs.ids, options)
    limit = tolerances.probabilities(theirs.logits, options.temperature)
    judge.close("sampling probabilities", theirs.probabilities, expected, limit)
