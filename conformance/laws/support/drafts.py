"""Drafts that agree with a backend always, sometimes or never."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.backends import Float32, Int64, Output, Verified


def verified(backend: Any, rows: Sequence[npt.ArrayLike], state: Any, padding: int = 0) -> Verified:
    """`verify` of ids of different numbers, right-padded."""
    lengths = np.array([len(np.asarray(row)) for row in rows], np.int64)
    ids = np.full((len(rows), lengths.max()), padding, np.int64)
    for padded, row, length in zip(ids, rows, lengths, strict=True):
        padded[:length] = row
    return Verified(*backend.verify(ids, lengths, state))


class Draft:
    """A backend whose logits are changed; its hidden states are not those of the model."""

    def __init__(self, backend: Any, change: Callable[[Float32], Float32]) -> None:
        self.backend, self.change = backend, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        logits, hidden, state = self.backend.prefill(ids, lengths)
        return Output(self.change(logits), 2 * hidden, state)

    def step(self, ids: Int64, state: Any) -> Output:
        logits, hidden, state = self.backend.step(ids, state)
        return Output(self.change(logits), 2 * hidden, state)

    def verify(self, ids: Int64, lengths: Int64, state: Any) -> Verified:
        logits, hidden, state = self.backend.verify(ids, lengths, state)
        return Verified(self.change(logits), 2 * hidden, state)


class Disturbance:
    """Negates the logits of every n-th call."""

    def __init__(self, every: int) -> None:
        self.every, self.calls = every, 0

    def __call__(self, logits: Float32) -> Float32:
        self.calls += 1
        return logits if self.calls % self.every else -logits


DRAFTS: dict[str, Callable[[Any], Draft]] = {
    "equal": lambda backend: Draft(backend, lambda logits: logits),
    "disturbed": lambda backend: Draft(backend, Disturbance(5)),
    "opposite": lambda backend: Draft(backend, lambda logits: -logits),
}
