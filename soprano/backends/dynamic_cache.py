"""A KV cache that grows by concatenation, one column a step for every row.

Rows share their columns. Columns behind a shorter row's prompt are padding, which the attention
mask hides at every later step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from soprano.backends.base import Network, State
from soprano.backends.protocol import Float32, Int64, Output, Verified

MOST_UNUSED = 64  # columns that no row uses any more, before they are removed

Bool = npt.NDArray[np.bool_]


class DynamicCacheNetwork(Network, Protocol):
    """A network whose language model returns a longer KV cache than it was given."""

    def run(
        self, ids: Int64, attention_mask: Int64, positions: Int64, cache: Any
    ) -> tuple[Float32, Float32, Any]:
        """Logits (B, T, V), hidden states (B, T, H) and the cache with T more columns.

        The attention mask (B, S + T) is 1 for real columns of the cache and of ids (B, T).
        """
        ...

    def empty_cache(self, batch: int) -> Any:
        """A cache without columns."""
        ...

    def read_cache(self, cache: Any) -> list[Float32]:
        """Keys and values of every layer, each (B, KV heads, S, D), in an order of its own."""
        ...

    def write_cache(self, arrays: list[Float32]) -> Any:
        """A new cache of arrays in the order of `read_cache`."""
        ...


@dataclass
class DynamicCacheState(State):
    mask: Bool  # (B, S): which columns of the cache are real


class DynamicCache:
    """The policy; a subclass may override any method, `advance` above all."""

    def prefill(self, network: DynamicCacheNetwork, ids: Int64, lengths: Int64) -> Output:
        columns = np.arange(ids.shape[1])
        mask = columns < lengths[:, None]
        state = DynamicCacheState(network.empty_cache(len(ids)), lengths, mask)
        return self.advance(network, ids, np.broadcast_to(columns, ids.shape), state)

    def step(self, network: DynamicCacheNetwork, ids: Int64, state: DynamicCacheState) -> Output:
        mask = np.pad(state.mask, ((0, 0), (0, 1)), constant_values=True)
        grown = DynamicCacheState(state.cache, state.lengths + 1, mask)
        return self.advance(network, ids[:, None], state.lengths[:, None], grown)

    def verify(
        self, network: DynamicCacheNetwork, ids: Int64, lengths: Int64, state: DynamicCacheState
    ) -> Verified:
        new = np.arange(ids.shape[1])
        mask = np.concatenate([state.mask, new < lengths[:, None]], axis=1)
        positions = state.lengths[:, None] + new
        logits, hidden, cache = network.run(ids, mask.astype(np.int64), positions, state.cache)
        return Verified(logits, hidden, DynamicCacheState(cache, state.lengths + lengths, mask))

    def truncate(
        self, network: DynamicCacheNetwork, state: DynamicCacheState, lengths: Int64
    ) -> DynamicCacheState:
        mask = state.mask & (np.cumsum(state.mask, axis=1) <= lengths[:, None])
        kept = DynamicCacheState(state.cache, lengths, mask)
        if np.count_nonzero(~mask.any(axis=0)) > MOST_UNUSED:
            return self.select(network, kept, np.arange(len(lengths)))
        return kept

    def advance(
        self, network: DynamicCacheNetwork, ids: Int64, positions: Int64, state: DynamicCacheState
    ) -> Output:
        """Run new ids (B, T) at their positions; the state's mask and lengths include them."""
        logits, hidden, cache = network.run(
            ids, state.mask.astype(np.int64), np.ascontiguousarray(positions), state.cache
        )
        last = np.minimum(state.lengths, ids.shape[1]) - 1
        rows = np.arange(len(ids))
        following = DynamicCacheState(cache, state.lengths, state.mask)
        return Output(logits[rows, last], hidden[rows, last], following)

    def fork(self, network: DynamicCacheNetwork, state: DynamicCacheState) -> DynamicCacheState:
        cache = network.write_cache(network.read_cache(state.cache))
        return DynamicCacheState(cache, state.lengths, state.mask)

    def select(
        self, network: DynamicCacheNetwork, state: DynamicCacheState, rows: Int64
    ) -> DynamicCacheState:
        mask = state.mask[rows]
        columns = np.flatnonzero(mask.any(axis=0))  # of the rows that remain
        arrays = [array[rows][:, :, columns] for array in network.read_cache(state.cache)]
        cache = network.write_cache(arrays)
        return DynamicCacheState(cache, state.lengths[rows], mask[:, columns])

    def join(
        self, network: DynamicCacheNetwork, first: DynamicCacheState, second: DynamicCacheState
    ) -> DynamicCacheState:
        width = max(first.mask.shape[1], second.mask.shape[1])
        mask = np.concatenate([_widen(first.mask, 1, width), _widen(second.mask, 1, width)])
        lengths = np.concatenate([first.lengths, second.lengths])
        pairs = zip(network.read_cache(first.cache), network.read_cache(second.cache), strict=True)
        arrays = [np.concatenate([_widen(array, 2, width) for array in pair]) for pair in pairs]
        return DynamicCacheState(network.write_cache(arrays), lengths, mask)


def _widen(array: npt.NDArray[Any], axis: int, width: int) -> npt.NDArray[Any]:
    """The array with zeros behind it, `width` along `axis`."""
    pad = [(0, 0)] * array.ndim
    pad[axis] = (0, width - array.shape[axis])
    return np.pad(array, pad)
