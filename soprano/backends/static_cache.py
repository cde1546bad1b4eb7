"""A cache of fixed capacity that a step writes into: row b's columns 0 to length - 1 are real.

No step copies what earlier steps wrote; a buffer that is full is replaced by one of twice its
capacity.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from soprano.backends import Float32, Int64, Output
from soprano.backends.base import RowBackend, State

LEAST_CAPACITY = 128


class Source(NamedTuple):
    """Rows of one cache that a new one takes over."""

    cache: Any
    rows: Int64


@dataclass
class FixedState(State):
    capacity: int  # columns of the buffers


class InPlaceCacheBackend(RowBackend):
    """Rows that each have their own columns.

    A runtime supplies `_run`, which writes into the cache, and `_gather`, which makes one.
    """

    @abstractmethod
    def _run(self, ids: Int64, last: Int64, lengths: Int64, cache: Any) -> tuple[Float32, Float32]:
        """Logits (B, V) and hidden (B, H) after id `last` (B,) of each row of ids (B, T).

        `lengths` (B,) are the rows' ids in all, with the real ones among these.
        """

    @abstractmethod
    def _gather(self, sources: Sequence[Source], columns: int, capacity: int, batch: int) -> Any:
        """A new cache for `batch` rows: the sources' rows in order, `columns` of each copied."""

    def _prefill(self, ids: Int64, lengths: Int64) -> Output:
        capacity = _capacity(ids.shape[1])
        cache = self._gather([], 0, capacity, len(ids))
        return self._advance(ids, lengths - 1, FixedState(cache, lengths, capacity))

    def _step(self, ids: Int64, state: FixedState) -> Output:
        if state.lengths.max() == state.capacity:
            state = self._moved([(state, _every(state))], 2 * state.capacity)
        following = FixedState(state.cache, state.lengths + 1, state.capacity)
        return self._advance(ids[:, None], np.zeros_like(ids), following)

    def _advance(self, ids: Int64, last: Int64, state: FixedState) -> Output:
        return Output(*self._run(ids, last, state.lengths, state.cache), state)

    def _fork(self, state: FixedState) -> FixedState:
        return self._moved([(state, _every(state))], state.capacity)

    def _select(self, state: FixedState, rows: Int64) -> FixedState:
        return self._moved([(state, rows)], state.capacity)

    def _join(self, first: FixedState, second: FixedState) -> FixedState:
        capacity = max(first.capacity, second.capacity)
        return self._moved([(first, _every(first)), (second, _every(second))], capacity)

    def _moved(self, parts: Sequence[tuple[FixedState, Int64]], capacity: int) -> FixedState:
        """The given rows of the given states in buffers of their own."""
        lengths = np.concatenate([state.lengths[rows] for state, rows in parts])
        sources = [Source(state.cache, rows) for state, rows in parts]
        cache = self._gather(sources, int(lengths.max()), capacity, len(lengths))
        return FixedState(cache, lengths, capacity)


def _capacity(columns: int) -> int:
    """Twice a prompt, at least: short utterances never move."""
    return max(LEAST_CAPACITY, 1 << columns.bit_length())


def _every(state: FixedState) -> Int64:
    return np.arange(len(state.lengths))
