"""Rows of different lengths: what the runtimes share around their networks.

The protocol's checks and its consumed states are written here once, and the decoder's ragged
batches; how a runtime keeps its cache is `growing.py` or `in_place.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from soprano.backends import Capabilities, Float32, Int64, Output
from soprano.config import ModelConfig
from soprano.errors import BackendError


@dataclass
class State:
    """The cache of a batch of rows; a value that the step that uses it consumes."""

    cache: Any  # of the runtime
    lengths: Int64  # (B,): ids each row has seen
    consumed: bool = field(default=False, kw_only=True)

    def consume(self) -> Self:
        if self.consumed:
            raise BackendError("state was already consumed: fork it to use it twice")
        self.consumed = True
        return self


class RowBackend(ABC):
    """The protocol over a network that knows only rectangles."""

    name: str
    config: ModelConfig
    capabilities: Capabilities

    @abstractmethod
    def _prefill(self, ids: Int64, lengths: Int64) -> Output:
        """As `prefill`, of checked arguments."""

    @abstractmethod
    def _step(self, ids: Int64, state: Any) -> Output:
        """As `step`, of checked arguments and a state that is now this call's own."""

    @abstractmethod
    def _fork(self, state: Any) -> Any: ...

    @abstractmethod
    def _select(self, state: Any, rows: Int64) -> Any: ...

    @abstractmethod
    def _join(self, first: Any, second: Any) -> Any: ...

    @abstractmethod
    def _spectrum(self, hidden: Float32) -> Float32:
        """The spectrum (B, F, T', 2) of hidden states (B, T, H), T at least 1."""

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        # The state keeps the lengths: a copy, since the caller may write into theirs.
        ids, lengths = np.asarray(ids, np.int64), np.array(lengths, np.int64)
        if ids.ndim != 2 or lengths.shape != ids.shape[:1]:
            raise ValueError(
                f"ids must be (B, T) and lengths (B,), got {ids.shape}, {lengths.shape}"
            )
        if not lengths.size or lengths.min() < 1 or lengths.max() > ids.shape[1]:
            raise ValueError(f"lengths must be 1 to {ids.shape[1]}, got {lengths.tolist()}")
        real = np.arange(ids.shape[1]) < lengths[:, None]
        self._check_ids(ids[real])
        return self._prefill(np.where(real, ids, 0), lengths)

    def step(self, ids: Int64, state: Any) -> Output:
        ids = np.asarray(ids, np.int64)
        if ids.shape != state.lengths.shape:
            raise ValueError(f"ids must be {state.lengths.shape}, one a row, got {ids.shape}")
        self._check_ids(ids)
        state.consume()
        return self._step(ids, state)

    def _check_ids(self, ids: Int64) -> None:
        size = self.config.language_model.vocab_size
        if ids.min() < 0 or ids.max() >= size:
            raise ValueError(f"ids must be 0 to {size - 1}, got {ids.min()} to {ids.max()}")

    def fork(self, state: Any) -> Any:
        if state.consumed:
            raise BackendError("state was already consumed: fork it before")
        return self._fork(state)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        state.consume()
        return self._select(state, np.asarray(rows, np.int64))

    def join(self, first: Any, second: Any) -> Any:
        first.consume()
        second.consume()
        return self._join(first, second)

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


def require_precision(asked: str, offered: str, name: str) -> None:
    """An error unless the precision class asked for is the one that would run."""
    if asked != offered:
        raise BackendError(
            f"{name}: precision {asked!r} was asked for, the model offers {offered!r}"
        )
