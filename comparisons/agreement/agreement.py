"""What another program says against what this project says it should.

Each function judges one kind of claim; a claim that does not hold raises `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from comparisons.agreement.observe import ReadText, Utterance
from comparisons.agreement.ours import Measured
from conformance.judging import tolerances
from conformance.judging.judge import Judge
from soprano.config import ModelConfig, SamplingOptions
from soprano.sampling import distribution, penalize

# The other program draws at a temperature of 0.001 where 0 is asked for: under a gap of a few
# thousandths its choice is a matter of luck, at ten it is e**-10 certain.
NARROW = 0.01
GREEDY = SamplingOptions(temperature=0.0, top_p=0.95, repetition_penalty=1.2)


def same_text(judge: Judge, ours: ReadText, theirs: ReadText) -> None:
    """The same pieces become prompts, and the prompts the same ids."""
    judge.equal("prompts", ours.pieces, theirs.pieces)
    judge.equal("prompt ids", ours.ids, theirs.ids)


def same_numbers(
    judge: Judge,
    quantity: str,
    theirs: npt.NDArray[np.float32],
    ours: Measured,
    config: ModelConfig,
) -> None:
    """Their floats are as near to the float64 definition as a float32 runtime's must be."""
    limit = tolerances.against_oracle(quantity, ours.floor, ours.expected, config)
    judge.close(quantity, theirs, ours.expected, limit)


def gaps(logits: npt.ArrayLike, prompt: Sequence[int], drawn: Sequence[int]) -> list[float]:
    """How far each id's greedy choice was from another, on penalised logits (N, V)."""
    found = []
    for step, row in enumerate(np.asarray(logits)):
        history = [*prompt, *drawn[:step]]
        second, first = np.sort(penalize(row, history, GREEDY.repetition_penalty))[-2:]
        found.append(float(first - second))
    return found


def same_ids(judge: Judge, theirs: Utterance, ours: Sequence[int], margins: Sequence[float]) -> int:
    """Free-running ids are equal up to the first narrow gap; gives how many were compared."""
    narrow = (step for step, gap in enumerate(margins) if gap < NARROW)
    count = next(narrow, len(theirs.drawn))
    # Without a narrow gap they must also end at the same place.
    cut = count if count < len(theirs.drawn) else None
    if count:  # else nothing was compared, which is a failure of its own
        judge.equal("free-running ids", list(ours[:cut]), theirs.drawn[:cut])
    return count


def same_distribution(judge: Judge, theirs: Utterance, options: SamplingOptions) -> None:
    """Each id was drawn from penalty, temperature, top-k and top-p applied in this order."""
    assert theirs.probabilities is not None
    wanted = np.stack(
        [
            distribution(
                penalize(row, [*theirs.prompt, *theirs.drawn[:step]], options.repetition_penalty),
                options,
            )
            for step, row in enumerate(theirs.logits)
        ]
    )
    limit = tolerances.shares(theirs.logits, options.temperature)
    judge.close("sampling probabilities", theirs.probabilities, wanted, limit)
