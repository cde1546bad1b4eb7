"""A KV cache of fixed capacity that every step writes in place.

Each row has columns of its own: 0 to length - 1 of row b are real, the rest is never read.
No step copies earlier columns; a full cache is replaced by one of twice its capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from soprano.backends.base import Network, State
from soprano.backends.protocol import Float32, Int64, Output, Verified

LEAST_CAPACITY = 128


class StaticCacheNetwork(Network, Protocol):
    """A network whose language model writes into the KV cache that it is given."""

    def run(self, ids: Int64, last: Int64, lengths: Int64, cache: Any) -> tuple[Float32, Float32]:
        """Logits (B, V) and hidden states (B, H) after id `last` (B,) of each row of ids (B, T).

        `lengths` (B,) count all real ids of each row, these included.
        """
        ...

    def run_each(self, ids: Int64, new: Int64, lengths: Int64, cache: Any) -> Verified:
        """Logits (B, T, V) and hidden states (B, T, H) after each id; the state is None.

        Of ids (B, T), `new` (B,) are real; the cache has room for all.
        """
        ...

    def empty_cache(self, batch: int, capacity: int) -> Any:
        """A cache of `capacity` columns."""
        ...

    def read_cache(self, cache: Any) -> list[Float32]:
        """Keys and values of every layer, each (B, KV heads, capacity, D).

        They share the cache's memory: what is written into them is written into the cache.
        """
        ...


@dataclass
class StaticCacheState(State):
    capacity: int  # columns of the cache


class StaticCache:
    """The policy; a subclass may override any method."""

    def prefill(self, network: StaticCacheNetwork, ids: Int64, lengths: Int64) -> Output:
        # Twice the prompt, or more: short utterances are never copied.
        capacity = max(LEAST_CAPACITY, 1 << ids.shape[1].bit_length())
        cache = network.empty_cache(len(ids), capacity)
        return self.advance(network, ids, lengths - 1, StaticCacheState(cache, lengths, capacity))

    def step(self, network: StaticCacheNetwork, ids: Int64, state: StaticCacheState) -> Output:
        if state.lengths.max() == state.capacity:
            state = self._copy(network, [(state, _every_row(state))], 2 * state.capacity)
        following = StaticCacheState(state.cache, state.lengths + 1, state.capacity)
        return self.advance(network, ids[:, None], np.zeros_like(ids), following)

    def verify(
        self, network: StaticCacheNetwork, ids: Int64, lengths: Int64, state: StaticCacheState
    ) -> Verified:
        needed = int(state.lengths.max()) + ids.shape[1]
        if needed > state.capacity:
            capacity = max(2 * state.capacity, 1 << needed.bit_length())
            state = self._copy(network, [(state, _every_row(state))], capacity)
        following = StaticCacheState(state.cache, state.lengths + lengths, state.capacity)
        outputs = network.run_each(ids, lengths, following.lengths, state.cache)
        return outputs._replace(state=following)

    def truncate(
        self, network: StaticCacheNetwork, state: StaticCacheState, lengths: Int64
    ) -> StaticCacheState:
        return StaticCacheState(state.cache, lengths, state.capacity)

    def advance(
        self, network: StaticCacheNetwork, ids: Int64, last: Int64, state: StaticCacheState
    ) -> Output:
        """Run new ids (B, T), of which `last` (B,) is each row's last; the lengths include them."""
        return Output(*network.run(ids, last, state.lengths, state.cache), state)

    def fork(self, network: StaticCacheNetwork, state: StaticCacheState) -> StaticCacheState:
        return self._copy(network, [(state, _every_row(state))], state.capacity)

    def select(
        self, network: StaticCacheNetwork, state: StaticCacheState, rows: Int64
    ) -> StaticCacheState:
        return self._copy(network, [(state, rows)], state.capacity)

    def join(
        self, network: StaticCacheNetwork, first: StaticCacheState, second: StaticCacheState
    ) -> StaticCacheState:
        capacity = max(first.capacity, second.capacity)
        parts = [(first, _every_row(first)), (second, _every_row(second))]
        return self._copy(network, parts, capacity)

    def _copy(
        self,
        network: StaticCacheNetwork,
        parts: Sequence[tuple[StaticCacheState, Int64]],
        capacity: int,
    ) -> StaticCacheState:
        """The given rows of the given states in a new cache."""
        lengths = np.concatenate([state.lengths[rows] for state, rows in parts])
        cache = network.empty_cache(len(lengths), capacity)
        new, first = network.read_cache(cache), 0
        for state, rows in parts:
            stop, used = first + len(rows), int(state.lengths[rows].max())
            for target, source in zip(new, network.read_cache(state.cache), strict=True):
                target[first:stop, :, :used] = source[rows, :, :used]
            first = stop
        return StaticCacheState(cache, lengths, capacity)


def _every_row(state: StaticCacheState) -> Int64:
    return np.arange(len(state.lengths))
