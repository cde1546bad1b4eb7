"""Generated ids compared to their end: after a difference, both sides continue with one id.

The reference's logits are those after the compared ids, so every decision of an utterance is
judged, also behind a tie. Where a loop can be resumed, the reference's id is fed
(`conformance.diagnosis.generated_ids`); ids that are already there are judged as they are.
A difference is a tie if its margin lies within the error that the logits may have and, where the
logits are known, within the error that was measured, which must be within its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.judge import Judge
from conformance.judging.vectors import Vectors
from conformance.oracle.sampler import decide, penalize
from soprano.config import SamplingOptions

Floats = npt.NDArray[np.floating]
_CONTEXT = 3  # ids on either side of a difference
# Ties beyond the expected number that chance explains: three standard deviations, and one.
_SIGMAS, _SPARE = 3.0, 1.0
_ROWS = 4.0  # limits of a row's RMS: more than eight standard deviations of a correct runtime


@dataclass(frozen=True)
class Difference:
    """One id that the reference would not have chosen."""

    index: int
    actual: int
    expected: int
    margin: float  # a gap of logits, or a distance of probabilities
    excused: float  # the largest margin of a tie
    error: float | None  # measured, in the unit of the margin; None if the logits are not known
    context: str  # the ids around it
    text: str = ""  # what is spoken
    beyond: bool = False  # whether a logit is off by more than twice its limit

    @property
    def tie(self) -> bool:
        """Whether an error within the limits changes the decision."""
        measured = np.inf if self.error is None else self.error
        if self.beyond:
            return False
        return self.margin <= min(self.excused, measured * (1 + 1e-3) + 1e-12)

    def __str__(self) -> str:
        kind = "tie" if self.tie else "defect"
        error = "unknown" if self.error is None else f"{self.error:.3g}"
        text = f" of {self.text!r}" if self.text else ""
        return (
            f"{kind} at id {self.index}{text}: got {self.actual}, wanted {self.expected} "
            f"(margin {self.margin:.3g}, measured error {error}, a tie is at most "
            f"{self.excused:.3g}); ids {self.context}"
        )


@dataclass
class Reanchored:
    """The compared ids of one or many utterances, and their differences."""

    compared: int = 0
    expected_ties: float = 0.0
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: Reanchored) -> None:
        self.compared += other.compared
        self.expected_ties += other.expected_ties
        self.differences += other.differences

    @property
    def ties(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.tie]

    @property
    def defects(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.tie]

    @property
    def allowed(self) -> float:
        """The largest number of ties that chance explains."""
        return self.expected_ties + _SIGMAS * self.expected_ties**0.5 + _SPARE

    @property
    def passed(self) -> bool:
        return bool(self.compared) and not self.defects and len(self.ties) <= self.allowed

    def lines(self) -> list[str]:
        """The counts, then every defect and tie."""
        counts = (
            f"{self.compared:,} ids: {len(self.defects)} defects, {len(self.ties)} ties "
            f"({self.expected_ties:.2g} expected, at most {self.allowed:.2g})"
        )
        return [counts, *map(str, [*self.defects, *self.ties])]


def reanchored(
    prompt: Sequence[int],
    ids: Sequence[int],
    options: SamplingOptions,
    uniforms: Sequence[float],
    reference: Floats,
    limit: Limit,
    *,
    actual: Floats | None = None,
    text: str = "",
    start: int = 0,
    once: bool = False,
) -> Reanchored:
    """Compare each id of an utterance with the reference's decision after the same ids.

    Args:
        ids: the generated ids, with `[STOP]`.
        reference: the oracle's logits (T, V) that predict each id.
        limit: of a logit's error.
        actual: the logits (T, V) that the ids were drawn from.
        start: the first id that is compared.
        once: compare no id behind the first difference.
    """
    excused = largest_tie(limit, options.temperature)
    scale = limit.floor or limit.rms / tolerances.FACTOR
    found = Reanchored()
    for index, chosen in islice(enumerate(ids), start, None):
        found.compared += 1
        history = [*prompt, *ids[:index]]
        decision = decide(reference[index], history, options, uniforms[index])
        found.expected_ties += chance_of_tie(decision.margin, scale, options.temperature)
        if chosen != decision.id:
            measured, beyond = None, False
            if actual is not None:
                largest = float(np.abs(actual[index].astype(np.float64) - reference[index]).max())
                beyond = largest > 2 * limit.worst
                rows = actual[index], reference[index]
                measured = _measured(*rows, history, options, (chosen, decision.id))
            margin = _between(reference[index], history, options, chosen, decision.id)
            found.differences.append(
                Difference(
                    index, int(chosen), decision.id, decision.margin if margin is None else margin,
                    excused, measured, _around(ids, index), text, beyond,
                )
            )  # fmt: skip
            if once:
                break
    return found


def largest_tie(limit: Limit, temperature: float) -> float:
    """The largest margin of a tie, by the errors of whole rows.

    A decision is about two logits, not about the worst of thousands: correct runtimes have errors
    of half the limit, so that a margin beyond `_ROWS` limits is not explained by chance.
    """
    rows = _ROWS * (limit.row or limit.rms)
    return rows if temperature == 0 else rows / temperature / 2


def chance_of_tie(margin: float, error: float, temperature: float) -> float:
    """The probability that normal errors of the logits, of this RMS, change a decision."""
    # Greedy: two logits are off. Sampled: d(probability) is at most d(logit) / temperature / 2.
    spread = error * 2**0.5 if temperature == 0 else error / temperature / 2
    return NormalDist().cdf(-margin / spread) if spread else 0.0


def _between(
    logits: Floats, history: Sequence[int], options: SamplingOptions, chosen: int, wanted: int
) -> float | None:
    """The gap of two penalised logits of a greedy decision; None if it was sampled."""
    if options.temperature:
        return None
    scores = penalize(np.asarray(logits, np.float64), np.array(history), options.repetition_penalty)
    return float(scores[wanted] - scores[chosen])


def _measured(
    actual: Floats,
    reference: Floats,
    history: Sequence[int],
    options: SamplingOptions,
    ids: tuple[int, int],
) -> float:
    """The error of the decision that the logits' errors can cause, in the unit of its margin."""
    seen = np.array(history)
    one, other = (
        penalize(np.asarray(row, np.float64), seen, options.repetition_penalty)
        for row in (actual, reference)
    )
    errors = one - other
    if options.temperature == 0:
        return float(abs(errors[ids[0]] - errors[ids[1]]))
    return float(np.abs(errors).max() / options.temperature)


def _around(ids: Sequence[int], index: int) -> str:
    start, stop = max(index - _CONTEXT, 0), index + _CONTEXT + 1
    words = [f"[{i}]" if start + n == index else str(i) for n, i in enumerate(ids[start:stop])]
    before, after = "... " if start else "", " ..." if stop < len(ids) else ""
    return f"{before}{' '.join(words)}{after}"


def judge_whole_utterance(
    judge: Judge,
    vectors: Vectors,
    prompt: Sequence[int],
    ids: Sequence[int],
    options: SamplingOptions,
    uniforms: Sequence[float],
    *,
    wrong: float,
    text: str = "",
) -> None:
    """Judge every id of an utterance, with `[STOP]`, against the oracle after the same ids.

    Raises:
        LookupError: the weights of the model are not at hand.
    """
    __tracebackhide__ = True
    oracle = vectors.pack.networks().language_model
    reference = oracle([*prompt, *ids[:-1]])[0][len(prompt) - 1 :]
    limit = vectors.limit("step logits")
    found = reanchored(prompt, ids, options, uniforms, reference, limit, text=text)
    judge_reanchored(judge, found, wrong=wrong)


def judge_reanchored(judge: Judge, found: Reanchored, *, wrong: float = np.inf) -> None:
    """Judge each difference by its margin, and count the ids and the ties.

    `wrong` is the margin of a defect.
    """
    __tracebackhide__ = True
    judge.count_ids(found.compared)
    for difference in [*found.defects, *found.ties]:
        excused = difference.excused if difference.tie else min(difference.margin * 0.5, 1e-30)
        judge.below(
            "ids and margin", difference.margin, excused, found.compared,
            wrong=max(wrong, 2 * excused), fault=str(difference),
        )  # fmt: skip
        judge.count_ids(0, tied=True)
    if not found.differences:
        judge.below("differing ids", 0, 0.5, found.compared, wrong=1)
