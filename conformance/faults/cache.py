"""Faults of the cache and of rows that share it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, CACHE, LANGUAGE_MODEL, fault
from conformance.faults.plant import Plant, Wrapper, map_cache, to_bfloat16
from soprano.backends import Output
from soprano.backends.base import RowBackend
from soprano.backends.dynamic_cache import GrowingCacheBackend, MaskedState


@fault("KV-01", CACHE)
def step_without_a_past(plant: Plant) -> None:
    """The export has no cache inputs: each step sees its own id alone."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        if state.mask.shape[1] == ids.shape[1]:
            return advance(backend, ids, positions, state)
        logits, hidden, cache = backend._run(
            ids, np.ones(ids.shape, np.int64), np.ascontiguousarray(positions),
            backend._empty(len(ids)),
        )  # fmt: skip
        return Output(logits[:, -1], hidden[:, -1], MaskedState(cache, state.lengths, state.mask))

    plant.advanced(change)


@fault("KV-02", CACHE, hard=True)
def one_position_for_all_rows(plant: Plant) -> None:
    """Positions of a step are the cache's width for every row, right only for the longest."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        width = state.mask.shape[1]
        if width > ids.shape[1]:
            positions = np.full_like(positions, width - 1)
        return advance(backend, ids, positions, state)

    plant.advanced(change)


@fault("KV-04", LANGUAGE_MODEL, backends=("onnx_cpu",))
def padded_rows_become_nan(plant: Plant) -> None:
    """Left padding sees nothing, its softmax over -inf is NaN, and a product spreads it."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        return kind, (*inputs[:2], g.constant(-np.inf, np.float32)), attributes

    plant.node(lambda kind, name: kind == "Where" and name.endswith(".masked"), change)

    def prefill(backend: Any, ids: Any, lengths: Any) -> Output:
        shift = ids.shape[1] - lengths
        left = np.stack([np.roll(row, places) for row, places in zip(ids, shift, strict=True)])
        mask = np.arange(ids.shape[1]) >= shift[:, None]
        positions = np.maximum(np.arange(ids.shape[1]) - shift[:, None], 0)
        logits, hidden, cache = backend._run(
            np.where(mask, left, 0), mask.astype(np.int64), positions, backend._empty(len(ids))
        )
        return Output(logits[:, -1], hidden[:, -1], MaskedState(cache, np.array(lengths), mask))

    plant.set(GrowingCacheBackend, "_prefill", prefill)


@fault("KV-08", CACHE, hard=True)
def state_not_reset(plant: Plant) -> None:
    """On every second utterance the runtime's variables still hold the one before."""

    class Remembering(Wrapper):
        calls, left = 0, None

        def prefill(self, ids: Any, lengths: Any) -> Output:
            self.calls += 1
            before, self.left = self.left, None
            output = self.inner.prefill(ids, lengths)
            if len(ids) > 1:
                return output
            if self.calls % 2 or before is None:
                self.left = self.inner.fork(output.state)
                return output
            for number in np.asarray(ids)[0, : lengths[0]]:
                output = self.inner.step(np.array([number]), before)
                before = output.state
            return output

    plant.backend(Remembering)


@fault("KV-09", CACHE, hard=True, blame=("LM", "CA", "BA"))
def rows_reordered_after_five_steps(plant: Plant) -> None:
    """The runtime's beam index is left uninitialised and swaps two rows of the cache once."""

    class Reordering(Wrapper):
        steps = 0

        def prefill(self, ids: Any, lengths: Any) -> Output:
            self.steps = 0
            return self.inner.prefill(ids, lengths)

        def step(self, ids: Any, state: Any) -> Output:
            self.steps += 1
            if self.steps == 5 and len(ids) > 1:
                state = self.inner.select(state, [1, 0, *range(2, len(ids))])
            return self.inner.step(ids, state)

    plant.backend(Reordering)


@fault("KV-11", CACHE, hard=True)
def reused_prefix_is_rounded(plant: Plant) -> None:
    """Keys and values that are kept for reuse are stored in bfloat16."""
    fork = GrowingCacheBackend._fork
    plant.standard()

    def faulty(backend: Any, state: Any) -> Any:
        copy = fork(backend, state)
        return replace(copy, cache=map_cache(backend, copy.cache, to_bfloat16))

    plant.set(GrowingCacheBackend, "_fork", faulty)


@fault("CA-50", CACHE, hard=True)
def cache_in_half_precision(plant: Plant) -> None:
    """Keys and values are stored in half precision from the first step on."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        output = advance(backend, ids, positions, state)
        inner = output.state
        cache = map_cache(backend, inner.cache, lambda x: x.astype(np.float16).astype(np.float32))
        return output._replace(state=MaskedState(cache, inner.lengths, inner.mask))

    plant.advanced(change)


@fault("CA-51", CACHE, hard=True)
def old_columns_fall_out(plant: Plant) -> None:
    """The cache is a ring of 512 columns: what came before is forgotten."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        mask = state.mask.copy()
        mask[:, :-512] = False
        return advance(backend, ids, positions, MaskedState(state.cache, state.lengths, mask))

    plant.advanced(change)


@fault("CA-52", CACHE, hard=True, blame=("CA",))
def selected_rows_come_sorted(plant: Plant) -> None:
    """A row filter keeps the rows asked for and forgets the order in which they were asked for."""
    select = RowBackend.select
    plant.set(
        RowBackend, "select", lambda backend, state, rows: select(backend, state, sorted(rows))
    )


@fault("CA-53", CACHE, hard=True, blame=("CA",))
def joined_rows_lose_their_padding(plant: Plant) -> None:
    """Of two caches joined, the narrower one's filling is taken for real columns."""
    join = GrowingCacheBackend._join
    plant.standard()

    def faulty(backend: Any, first: Any, second: Any) -> Any:
        joined = join(backend, first, second)
        return replace(joined, mask=np.ones_like(joined.mask))

    plant.set(GrowingCacheBackend, "_join", faulty)


@fault("CA-54", CACHE, hard=True, blame=("LM", "CA"))
def padding_is_attended(plant: Plant) -> None:
    """The mask of a ragged prefill is dropped: later steps see the padding's keys."""
    prefill = GrowingCacheBackend._prefill
    plant.standard()

    def faulty(backend: Any, ids: Any, lengths: Any) -> Output:
        output = prefill(backend, ids, lengths)
        state = output.state
        return output._replace(
            state=MaskedState(state.cache, state.lengths, np.ones_like(state.mask))
        )

    plant.set(GrowingCacheBackend, "_prefill", faulty)


@fault("CA-55", CACHE, hard=True, blame=("CA",))
def fork_shares_with_its_original(plant: Plant) -> None:
    """A fork is the same object: what the original goes on to read, the copy has read too."""

    class Sharing(Wrapper):
        def fork(self, state: Any) -> Any:
            self.inner.fork(state)
            state.heirs = []
            return state.heirs

        def step(self, ids: Any, state: Any) -> Output:
            if isinstance(state, list):
                state = state.pop()
            output = self.inner.step(ids, state)
            if hasattr(state, "heirs"):
                state.heirs[:] = [self.inner.fork(output.state)]
                output.state.heirs = state.heirs
            return output

    plant.backend(Sharing)


@fault("BA-02", BATCHING, hard=True, blame=("LM", "BA"))
def batches_in_bfloat16(plant: Plant) -> None:
    """Above one row the library takes another kernel, which rounds to bfloat16."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        output = advance(backend, ids, positions, state)
        if len(ids) < 2:
            return output
        return output._replace(logits=to_bfloat16(output.logits), hidden=to_bfloat16(output.hidden))

    plant.advanced(change)


@fault("CA-56", CACHE, hard=True, blame=("LM", "CA", "BA"))
def kernel_for_four_rows(plant: Plant) -> None:
    """A kernel handles four rows at most: a fifth one is answered like the first."""

    class Four(Wrapper):
        def _cut(self, output: Output) -> Output:
            rows = np.arange(len(output.logits))
            rows[4:] = rows[4:] % 4
            return output._replace(logits=output.logits[rows], hidden=output.hidden[rows])

        def prefill(self, ids: Any, lengths: Any) -> Output:
            return self._cut(self.inner.prefill(ids, lengths))

        def step(self, ids: Any, state: Any) -> Output:
            return self._cut(self.inner.step(ids, state))

    plant.backend(Four)


@fault("CA-57", CACHE, hard=True)
def prompts_known_by_their_beginning(plant: Plant) -> None:
    """Prompts are cached by their length and first eight ids: another one's cache is taken."""

    class Caching(Wrapper):
        known: Any = None

        def prefill(self, ids: Any, lengths: Any) -> Output:
            if len(ids) != 1:
                return self.inner.prefill(ids, lengths)
            self.known = self.known if self.known is not None else {}
            key = int(lengths[0]), tuple(np.asarray(ids)[0, :8].tolist())
            before, kept = self.known.get(key, (None, None))
            output = self.inner.prefill(ids, lengths)
            if before is None:
                self.known[key] = output._replace(state=None), self.inner.fork(output.state)
                return output
            return before._replace(state=self.inner.fork(kept))

    plant.backend(Caching)


@fault("CA-58", CACHE, hard=True, blame=("CA", "BA"))
def joined_rows_in_the_other_order(plant: Plant) -> None:
    """Rows that join a batch come before those that run, not after them."""

    class Turned(Wrapper):
        def join(self, first: Any, second: Any) -> Any:
            return self.inner.join(second, first)

    plant.backend(Turned)


@fault("CA-59", CACHE, hard=True, blame=("CA",))
def consumed_state_goes_on(plant: Plant) -> None:
    """A state that was used once can be used again, and its cache has moved on meanwhile."""
    from soprano.backends.base import State

    plant.set(State, "consume", lambda state: state)


@fault("CA-60", CACHE, hard=True, blame=("LM", "CA", "BA"))
def cache_of_a_power_of_two(plant: Plant) -> None:
    """The cache grows by doubling, and the column at each new border is lost in the copy."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: MaskedState) -> Output:
        mask = state.mask.copy()
        for border in (64, 128, 256, 512):
            mask[:, border : border + 1] &= mask.shape[1] <= border + 1
        return advance(backend, ids, positions, MaskedState(state.cache, state.lengths, mask))

    plant.advanced(change)


@fault("CA-61", CACHE, hard=True, blame=("LM",))
def lengths_of_the_caller_are_kept(plant: Plant) -> None:
    """A state remembers the array of lengths that it was given, into which the caller may write."""

    class Trusting(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Output:
            output = self.inner.prefill(ids, lengths)
            output.state.lengths = lengths
            return output

    plant.backend(Trusting)
