"""Rows of different lengths: what the runtimes share around their networks.

A runtime supplies `_run`, `_empty`, `_copy`, `_take`, `_merge` and `_spectrum` on its own kind of
cache; the protocol's bookkeeping of masks, positions and consumed states is written here once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.backends import Capabilities, Float32, Int64, Output
from soprano.config import ModelConfig
from soprano.errors import BackendError

Bool = npt.NDArray[np.bool_]


@dataclass
class State:
    """The cache of a batch of rows; a value that the step that uses it consumes."""

    cache: Any  # of the runtime
    mask: Bool  # (B, S): which columns of the cache are real
    lengths: Int64  # (B,): ids each row has seen
    consumed: bool = False

    def consume(self) -> State:
        if self.consumed:
            raise BackendError("state was already consumed: fork it to use it twice")
        self.consumed = True
        return self


class RowBackend(ABC):
    """Prefill, step and decode of ragged batches over a network that knows only rectangles."""

    name: str
    config: ModelConfig
    capabilities: Capabilities

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

    @abstractmethod
    def _spectrum(self, hidden: Float32) -> Float32:
        """The spectrum (B, F, T', 2) of hidden states (B, T, H), T at least 1."""

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        ids, lengths = np.asarray(ids, np.int64), np.asarray(lengths, np.int64)
        if ids.ndim != 2 or lengths.shape != ids.shape[:1]:
            raise ValueError(
                f"ids must be (B, T) and lengths (B,), got {ids.shape}, {lengths.shape}"
            )
        if not lengths.size or lengths.min() < 1 or lengths.max() > ids.shape[1]:
            raise ValueError(f"lengths must be 1 to {ids.shape[1]}, got {lengths.tolist()}")
        columns = np.arange(ids.shape[1])
        mask = columns < lengths[:, None]
        self._check_ids(ids[mask])
        positions = np.broadcast_to(columns, ids.shape)
        padded = np.where(mask, ids, 0)
        return self._advance(padded, positions, State(self._empty(len(ids)), mask, lengths))

    def step(self, ids: Int64, state: State) -> Output:
        ids = np.asarray(ids, np.int64)
        if ids.shape != state.lengths.shape:
            raise ValueError(f"ids must be {state.lengths.shape}, one a row, got {ids.shape}")
        self._check_ids(ids)
        state.consume()
        mask = np.pad(state.mask, ((0, 0), (0, 1)), constant_values=True)
        grown = State(state.cache, mask, state.lengths + 1)
        return self._advance(ids[:, None], state.lengths[:, None], grown)

    def _advance(self, ids: Int64, positions: Int64, state: State) -> Output:
        logits, hidden, cache = self._run(
            ids, state.mask.astype(np.int64), np.ascontiguousarray(positions), state.cache
        )
        last = np.minimum(state.lengths, ids.shape[1]) - 1
        rows = np.arange(len(ids))
        return Output(
            logits[rows, last], hidden[rows, last], State(cache, state.mask, state.lengths)
        )

    def _check_ids(self, ids: Int64) -> None:
        size = self.config.language_model.vocab_size
        if ids.min() < 0 or ids.max() >= size:
            raise ValueError(f"ids must be 0 to {size - 1}, got {ids.min()} to {ids.max()}")

    def fork(self, state: State) -> State:
        if state.consumed:
            raise BackendError("state was already consumed: fork it before")
        return State(self._copy(state.cache), state.mask, state.lengths)

    def select(self, state: State, rows: Sequence[int]) -> State:
        state.consume()
        index = np.asarray(rows, np.int64)
        mask = state.mask[index]
        # Columns that no remaining row uses go with the rows that left.
        columns = np.flatnonzero(mask.any(axis=0))
        return State(
            self._take(state.cache, index, columns), mask[:, columns], state.lengths[index]
        )

    def join(self, first: State, second: State) -> State:
        first.consume()
        second.consume()
        width = max(first.mask.shape[1], second.mask.shape[1])
        masks = [_widen(first.mask, width), _widen(second.mask, width)]
        lengths = np.concatenate([first.lengths, second.lengths])
        return State(self._merge(first.cache, second.cache), np.concatenate(masks), lengths)

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        hidden, lengths = np.asarray(hidden, np.float32), np.asarray(lengths, np.int64)
        size = self.config.language_model.hidden_size
        if hidden.ndim != 3 or hidden.shape[2] != size or lengths.shape != hidden.shape[:1]:
            raise ValueError(
                f"hidden must be (B, T, {size}) and lengths (B,), "
                f"got {hidden.shape}, {lengths.shape}"
            )
        if lengths.size and not 0 <= lengths.min() <= lengths.max() <= hidden.shape[1]:
            raise ValueError(f"lengths must be 0 to {hidden.shape[1]}, got {lengths.tolist()}")
        decoder = self.config.decoder
        frames = decoder.frames(int(lengths.max(initial=0)))
        spectrum = np.zeros((len(hidden), decoder.bins, frames, 2), np.float32)
        # Padding would reach into a row through the convolutions: rows of one length go together.
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            spectrum[rows, :, : decoder.frames(int(length))] = self._spectrum(hidden[rows, :length])
        return spectrum

    def close(self) -> None:  # noqa: B027 - most runtimes hold nothing beyond the object itself
        """Give back what the runtime holds."""


def _widen(mask: Bool, width: int) -> Bool:
    return np.pad(mask, ((0, 0), (0, width - mask.shape[1])))


def widen_cache(cache: Float32, width: int) -> Float32:
    """Keys or values (B, heads, S, D) with zero columns up to `width`."""
    return np.pad(cache, ((0, 0), (0, 0), (0, width - cache.shape[2]), (0, 0)))


def require_precision(asked: str, offered: str, name: str) -> None:
    """An error unless the precision class asked for is the one that would run."""
    if asked != offered:
        raise BackendError(
            f"{name}: precision {asked!r} was asked for, the model offers {offered!r}"
        )
