"""A cache that grows by one column a step, the same column for every row.

A shorter row's columns have holes behind its prompt, which a mask hides.
A runtime supplies `_run`, `_empty`, `_copy`, `_take` and `_merge` on its own kind of cache.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.backends import Float32, Int64, Output
from soprano.backends.base import RowBackend, State

Bool = npt.NDArray[np.bool_]


@dataclass
class MaskedState(State):
    mask: Bool  # (B, S): which columns of the cache are real


class GrowingCacheBackend(RowBackend):
    """Rows that share their columns."""

    @abstractmethod
    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: Any
    ) -> tuple[Float32, Float32, Any]:
        """Logits (B, T, V), hidden (B, T, H) and the grown cache."""

    @abstractmethod
    def _empty(self, batch: int) -> Any:
        """A cache of no columns."""

    @abstractmethod
    def _copy(self, cache: Any) -> Any:
        """An independent copy."""

    @abstractmethod
    def _take(self, cache: Any, rows: Int64, columns: Int64) -> Any:
        """The given rows and columns."""

    @abstractmethod
    def _merge(self, first: Any, second: Any) -> Any:
        """The rows of both, the narrower cache widened on the right."""

    def _prefill(self, ids: Int64, lengths: Int64) -> Output:
        columns = np.arange(ids.shape[1])
        state = MaskedState(self._empty(len(ids)), lengths, columns < lengths[:, None])
        return self._advance(ids, np.broadcast_to(columns, ids.shape), state)

    def _step(self, ids: Int64, state: MaskedState) -> Output:
        mask = np.pad(state.mask, ((0, 0), (0, 1)), constant_values=True)
        grown = MaskedState(state.cache, state.lengths + 1, mask)
        return self._advance(ids[:, None], state.lengths[:, None], grown)

    def _advance(self, ids: Int64, positions: Int64, state: MaskedState) -> Output:
        logits, hidden, cache = self._run(
            ids, state.mask.astype(np.int64), np.ascontiguousarray(positions), state.cache
        )
        last = np.minimum(state.lengths, ids.shape[1]) - 1
        rows = np.arange(len(ids))
        following = MaskedState(cache, state.lengths, state.mask)
        return Output(logits[rows, last], hidden[rows, last], following)

    def _fork(self, state: MaskedState) -> MaskedState:
        return MaskedState(self._copy(state.cache), state.lengths, state.mask)

    def _select(self, state: MaskedState, rows: Int64) -> MaskedState:
        mask = state.mask[rows]
        # Columns that no remaining row uses go with the rows that left.
        columns = np.flatnonzero(mask.any(axis=0))
        cache = self._take(state.cache, rows, columns)
        return MaskedState(cache, state.lengths[rows], mask[:, columns])

    def _join(self, first: MaskedState, second: MaskedState) -> MaskedState:
        width = max(first.mask.shape[1], second.mask.shape[1])
        mask = np.concatenate([_widen(first.mask, width), _widen(second.mask, width)])
        lengths = np.concatenate([first.lengths, second.lengths])
        return MaskedState(self._merge(first.cache, second.cache), lengths, mask)


def _widen(mask: Bool, width: int) -> Bool:
    return np.pad(mask, ((0, 0), (0, width - mask.shape[1])))


def widen_cache(cache: Float32, width: int) -> Float32:
    """Keys or values (B, heads, S, D) with zero columns up to `width`."""
    return np.pad(cache, ((0, 0), (0, 0), (0, width - cache.shape[2]), (0, 0)))
