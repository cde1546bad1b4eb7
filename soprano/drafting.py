"""Self-speculation: a quantised copy of the language model drafts ids, the model verifies them.

The draft chooses each id with the draw that the model itself will use there. One pass of the model
over the drafted ids then gives the outputs after each of them, and the longest prefix of ids that
the model chooses too is kept (Leviathan et al. 2023, with equal draws in place of rejection
sampling). Ids and hidden states are the model's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from soprano.backends import Backend, Output, VerifyingBackend
from soprano.config import SamplingOptions
from soprano.stages import Sample

MOST_DRAFTED = 8
# Costs in decode steps of the model, measured at the published size on two processors: a step of
# the draft, and a further position of a verifying pass, which reads the same weights.
DRAFT_STEP, FURTHER_POSITION = 0.4, 0.08
LEAST_GAIN = 1.05  # of drafting, below which it is left out
PRIOR = 1.8, 2.0  # ids that agreed and were compared, before any were


class Draws(Iterator[float]):
    """An iterator of draws that can be looked into."""

    def __init__(self, draws: Iterator[float]) -> None:
        self._draws, self._ahead = draws, deque[float]()

    def __next__(self) -> float:
        return self._ahead.popleft() if self._ahead else next(self._draws)

    def peek(self, index: int) -> float | None:
        """The draw after `index` others; None after the end."""
        for draw in self._draws if len(self._ahead) <= index else ():
            self._ahead.append(draw)
            if len(self._ahead) > index:
                break
        return self._ahead[index] if len(self._ahead) > index else None


class Agreement:
    """How often the model has chosen the drafted id, and how many ids to draft accordingly.

    It counts ids, not time, so that the same calls give the same number of ids.
    """

    def __init__(self) -> None:
        self._agreed, self._compared = PRIOR
        self.drafted, self.accepted = 0, 0

    def count(self, drafted: int, accepted: int) -> None:
        """Add one verified draft; of the ids after the first difference nothing is known."""
        self.drafted += drafted
        self.accepted += accepted
        compared = min(accepted + 1, drafted)
        kept = 0.97**compared
        self._agreed = kept * self._agreed + accepted
        self._compared = kept * self._compared + compared

    def relax(self) -> None:
        """Forget half of what was counted: another utterance begins."""
        self._agreed = (self._agreed + PRIOR[0]) / 2
        self._compared = (self._compared + PRIOR[1]) / 2

    @property
    def length(self) -> int:
        """The number of ids to draft for the most ids in a given time; 0 if no draft is faster."""
        rate = self._agreed / self._compared
        gains = [1.0]  # of 0, 1, ... drafted ids
        expected = 1.0  # ids from one verifying pass
        for drafted in range(1, MOST_DRAFTED + 1):
            expected += rate**drafted
            gains.append(expected / (1 + drafted * (DRAFT_STEP + FURTHER_POSITION)))
        best = int(np.argmax(gains))
        return best if gains[best] >= LEAST_GAIN else 0


class Drafter:
    """The draft's side of one utterance.

    Args:
        draft: the language model that drafts.
        sample: the sampler of the model that verifies.
        draws: of the utterance.
        agreement: tells how many ids are drafted, and is told how many were accepted.
    """

    def __init__(self, draft: Backend, sample: Sample, draws: Draws, agreement: Agreement) -> None:
        self._draft = cast(VerifyingBackend, draft)
        self._sample, self._draws, self.agreement = sample, draws, agreement
        self._state: Any = None
        self._read = 0  # ids that the state contains
        self.drafted: list[int] = []
        self.before = 0  # ids of the utterance when they were drafted
        self._begun = False

    def propose(self, ids: list[int], sampling: SamplingOptions, stop: int, most: int) -> list[int]:
        """At most `most` ids that are likely to follow prompt and new ids; none if not worth it."""
        if not self._begun:
            self.agreement.relax()
        self._begun = True
        count = min(self.agreement.length, most)
        self.drafted, self.before = [], len(ids)
        if count < 1:
            return []
        output = self._catch_up(ids)
        for index in range(count):
            known = ids + self.drafted
            draw = self._draws.peek(index) if sampling.temperature else None
            if sampling.temperature and draw is None:
                break
            chosen = self._sample(output.logits[0], known, sampling, draw)
            if chosen == stop:
                break
            self.drafted.append(chosen)
            if index + 1 < count:
                output = self._draft.step(np.array([chosen], np.int64), output.state)
                self._read += 1
        self._state = output.state
        return self.drafted

    def settle(self, known: int) -> None:
        """Keep what was right of the last draft, after which `known` ids are known."""
        if self.drafted:
            # The last of the known ids was not drafted, or differs from what was drafted.
            accepted = min(known - self.before - 1, len(self.drafted))
            self.agreement.count(len(self.drafted), accepted)
        if self._read >= known:
            self._state = self._draft.truncate(self._state, np.array([known - 1], np.int64))
            self._read = known - 1

    def _catch_up(self, ids: list[int]) -> Output:
        """The draft's output after all ids."""
        unread = np.array([ids[self._read :]], np.int64)
        lengths = np.array([unread.shape[1]], np.int64)
        state, first, self._read = self._state, self._read == 0, len(ids)
        if first:
            return self._draft.prefill(unread, lengths)
        if unread.shape[1] == 1:
            return self._draft.step(unread[0], state)
        verified = self._draft.verify(unread, lengths, state)
        return Output(verified.logits[:, -1], verified.hidden[:, -1], verified.state)
