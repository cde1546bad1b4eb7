"""Faults of the KV cache and of batches whose rows share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, CACHE, LANGUAGE_MODEL, fault
from conformance.faults.network_hooks import with_cache, with_nodes
from conformance.faults.plant import Float32, Wrapper, to_bfloat16, with_backend
from conformance.faults.planted.language_model import OutputWrapper
from conformance.subject import Subject
from soprano.backends import Output
from soprano.backends.dynamic_cache import DynamicCache, DynamicCacheState


def with_advance(subject: Subject, change: Callable[..., Output]) -> Subject:
    """`change(advance, network, ids, positions, state)` in place of each run of the network."""

    class Changed(DynamicCache):
        def advance(self, network: Any, ids: Any, positions: Any, state: Any) -> Output:
            return change(super().advance, network, ids, positions, state)

    return with_cache(subject, Changed)


def with_cache_values(subject: Subject, change: Callable[[Float32], Float32]) -> Subject:
    """Change the keys and values after each run of the network."""

    def advance(inner: Any, network: Any, ids: Any, positions: Any, state: Any) -> Output:
        output = inner(network, ids, positions, state)
        return output._replace(state=changed_state(network, output.state, change))

    return with_advance(subject, advance)


def changed_state(network: Any, state: Any, change: Callable[[Float32], Float32]) -> Any:
    arrays = [change(array) for array in network.read_cache(state.cache)]
    return replace(state, cache=network.write_cache(arrays))


@fault(CACHE, "LM-02", with_advance, public=True)
def step_without_a_past(inner: Any, network: Any, ids: Any, positions: Any, state: Any) -> Output:
    """The export has no cache inputs: each step reads its own id only."""
    if state.mask.shape[1] == ids.shape[1]:
        return inner(network, ids, positions, state)
    alone = replace(state, cache=network.empty_cache(len(ids)), mask=np.ones(ids.shape, np.bool_))
    output = inner(network, ids, positions, alone)
    return output._replace(state=replace(output.state, mask=state.mask))


@fault(CACHE, "LM-02", with_advance, hard=True, public=True)
def one_position_for_all_rows(
    inner: Any, network: Any, ids: Any, positions: Any, state: Any
) -> Output:
    """The position of a step is the cache's width, which is right for the longest row only."""
    width = state.mask.shape[1]
    if width > ids.shape[1]:
        positions = np.full_like(positions, width - 1)
    return inner(network, ids, positions, state)


@fault(LANGUAGE_MODEL, "LM-01", backends=("onnx_cpu",), public=True)
def padded_rows_become_nan(subject: Subject) -> Subject:
    """Left padding attends to nothing: its softmax over -inf is NaN, which a matmul spreads."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        return kind, (*inputs[:2], g.constant(-np.inf, np.float32)), attributes

    class LeftPadded(DynamicCache):
        def prefill(self, network: Any, ids: Any, lengths: Any) -> Output:
            shift = ids.shape[1] - lengths
            left = np.stack([np.roll(row, places) for row, places in zip(ids, shift, strict=True)])
            mask = np.arange(ids.shape[1]) >= shift[:, None]
            positions = np.maximum(np.arange(ids.shape[1]) - shift[:, None], 0)
            logits, hidden, cache = network.run(
                np.where(mask, left, 0),
                mask.astype(np.int64),
                positions,
                network.empty_cache(len(ids)),
            )
            state = DynamicCacheState(cache, np.array(lengths), mask)
            return Output(logits[:, -1], hidden[:, -1], state)

    subject = with_nodes(
        subject, lambda kind, name: kind == "Where" and name.endswith(".masked"), change
    )
    return with_cache(subject, LeftPadded)


@fault(CACHE, "LM-03", with_backend, hard=True, public=True)
class StateNotReset(Wrapper):
    """On every second utterance the runtime's variables still hold the one before."""

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
        for i in np.asarray(ids)[0, : lengths[0]]:
            output = self.inner.step(np.array([i]), before)
            before = output.state
        return output


@fault(CACHE, "LM-02", with_backend, hard=True, blame=("LM", "CA", "BA"), public=True)
class RowsReorderedAfterFiveSteps(Wrapper):
    """The runtime's beam index is not initialised and swaps two rows of the cache once."""

    steps = 0

    def prefill(self, ids: Any, lengths: Any) -> Output:
        self.steps = 0
        return self.inner.prefill(ids, lengths)

    def step(self, ids: Any, state: Any) -> Output:
        self.steps += 1
        if self.steps == 5 and len(ids) > 1:
            state = self.inner.select(state, [1, 0, *range(2, len(ids))])
        return self.inner.step(ids, state)


@fault(CACHE, "CA-04", with_cache, hard=True, public=True)
class ReusedPrefixIsRounded(DynamicCache):
    """Keys and values that are kept for reuse are stored in bfloat16."""

    def fork(self, network: Any, state: Any) -> Any:
        return changed_state(network, super().fork(network, state), to_bfloat16)


@fault(CACHE, "LM-02", hard=True)
def cache_in_half_precision(subject: Subject) -> Subject:
    """Keys and values are stored in half precision from the first step on."""
    return with_cache_values(subject, lambda x: x.astype(np.float16).astype(np.float32))


def with_hidden_columns(subject: Subject, hide: Callable[[Any], None]) -> Subject:
    """`hide(mask)` clears columns of the attention mask in place."""

    def advance(inner: Any, network: Any, ids: Any, positions: Any, state: Any) -> Output:
        mask = state.mask.copy()
        hide(mask)
        return inner(network, ids, positions, replace(state, mask=mask))

    return with_advance(subject, advance)


@fault(CACHE, "LM-03", with_hidden_columns, hard=True)
def old_columns_fall_out(mask: Any) -> None:
    """The cache is a ring of 512 columns, and older ones are lost."""
    mask[:, :-512] = False


@fault(CACHE, "LM-01", with_hidden_columns, hard=True, blame=("LM", "CA", "BA"))
def cache_of_a_power_of_two(mask: Any) -> None:
    """The cache grows by doubling, and the first column after each border is lost in the copy."""
    for border in (64, 128, 256, 512):
        mask[:, border : border + 1] &= mask.shape[1] <= border + 1


@fault(CACHE, "CA-05", with_backend, hard=True, blame=("CA",))
class SelectedRowsComeSorted(Wrapper):
    """`select` keeps the requested rows and ignores their order."""

    def select(self, state: Any, rows: Any) -> Any:
        return self.inner.select(state, sorted(rows))


@fault(CACHE, "CA-06", with_cache, hard=True, blame=("CA",))
class JoinedRowsLoseTheirPadding(DynamicCache):
    """When two caches are joined, the padding of the narrower one is taken for real columns."""

    def join(self, network: Any, first: Any, second: Any) -> Any:
        joined = super().join(network, first, second)
        return replace(joined, mask=np.ones_like(joined.mask))


@fault(CACHE, "LM-02", with_cache, hard=True, blame=("LM", "CA"))
class PaddingIsAttended(DynamicCache):
    """The attention mask of a ragged prefill is dropped: later steps attend to the padding."""

    def prefill(self, network: Any, ids: Any, lengths: Any) -> Output:
        output = super().prefill(network, ids, lengths)
        mask = np.ones_like(output.state.mask)
        return output._replace(state=replace(output.state, mask=mask))


@fault(CACHE, "CA-04", with_backend, hard=True, blame=("CA",))
class ForkSharesWithItsOriginal(Wrapper):
    """A fork is the same object: ids that the original reads are read by the copy too."""

    def fork(self, state: Any) -> Any:
        state.heirs = [self.inner.fork(state)]
        return state.heirs

    def step(self, ids: Any, state: Any) -> Output:
        if isinstance(state, list):
            state = state.pop()
        output = self.inner.step(ids, state)
        if hasattr(state, "heirs"):
            state.heirs[:] = [self.inner.fork(output.state)]
            output.state.heirs = state.heirs
        return output


@fault(CACHE, "CA-08", with_backend, hard=True, blame=("CA",))
class CachesInARing(Wrapper):
    """The KV caches of prompts are a ring of 64: the one before is overwritten without a word."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.ring: list[Any] = []

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.inner.prefill(ids, lengths)
        if len(self.ring) == 64:
            oldest = self.ring.pop(0)
            oldest.overwritten = np.array(ids), np.array(lengths)
        self.ring.append(output.state)
        return output

    def step(self, ids: Any, state: Any) -> Output:
        if not state.consumed and (written := getattr(state, "overwritten", None)):
            state.consume()
            first, last = written
            state = self.inner.prefill(first[:1], last[:1]).state
        output: Output = self.inner.step(ids, state)
        return output


@fault(CACHE, "CA-04", with_backend, hard=True, blame=("CA",))
class ForkSharesItsLastPage(Wrapper):
    """A fork copies the last page of 16 ids only if it has room for two ids more."""

    def fork(self, state: Any) -> Any:
        copy = self.inner.fork(state)
        if len(state.lengths) == 1 and state.lengths[0] % 16 == 15:
            state.page = copy.page = {}
        return copy

    def step(self, ids: Any, state: Any) -> Output:
        page, written = getattr(state, "page", None), getattr(state, "written", None)
        if written is not None and (other := page["id"]) != written:
            state = self.inner.step(np.array([other]), state.before).state
        before = self.inner.fork(state) if page is not None and written is None else None
        output = self.inner.step(ids, state)
        if before is not None:
            page["id"] = int(ids[0])
            output.state.page, output.state.before = page, before
            output.state.written = page["id"]
        return output


@fault(BATCHING, "LM-01", with_backend, hard=True, blame=("LM", "BA"), public=True)
class BatchesInBfloat16(OutputWrapper):
    """For more than one row the library uses another kernel, which rounds to bfloat16."""

    def changed(self, output: Output) -> Output:
        if len(output.logits) < 2:
            return output
        logits, hidden = to_bfloat16(output.logits), to_bfloat16(output.hidden)
        return output._replace(logits=logits, hidden=hidden)


@fault(CACHE, "LM-01", with_backend, hard=True, blame=("LM", "CA", "BA"))
class KernelForFourRows(OutputWrapper):
    """A kernel handles at most four rows: the fifth gets the output of the first."""

    def changed(self, output: Output) -> Output:
        rows = np.arange(len(output.logits)) % 4
        return output._replace(logits=output.logits[rows], hidden=output.hidden[rows])


@fault(CACHE, "CA-07", with_backend, hard=True)
class PromptsKnownByTheirBeginning(Wrapper):
    """Prompts are cached by length and first eight ids, so that two prompts can collide."""

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
        logits, hidden = before.logits.copy(), before.hidden.copy()
        return Output(logits, hidden, self.inner.fork(kept))


@fault(CACHE, "CA-06", with_backend, hard=True, blame=("CA", "BA"))
class JoinedRowsInTheOtherOrder(Wrapper):
    """Rows that join a batch come before the running ones instead of after them."""

    def join(self, first: Any, second: Any) -> Any:
        return self.inner.join(second, first)


@fault(CACHE, "CA-03", with_backend, hard=True, blame=("CA",))
class ConsumedStateGoesOn(Wrapper):
    """A consumed state can be used again, although its cache has changed."""

    def step(self, ids: Any, state: Any) -> Output:
        state.consumed = False
        return self.inner.step(ids, state)

    def fork(self, state: Any) -> Any:
        state.consumed = False
        return self.inner.fork(state)

    def select(self, state: Any, rows: Any) -> Any:
        state.consumed = False
        return self.inner.select(state, rows)

    def join(self, first: Any, second: Any) -> Any:
        first.consumed = second.consumed = False
        return self.inner.join(first, second)


@fault(CACHE, "LM-08", with_backend, hard=True, blame=("LM",))
class LengthsOfTheCallerAreKept(Wrapper):
    """A state keeps the caller's array of lengths, which the caller may overwrite."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output = self.inner.prefill(ids, lengths)
        output.state.lengths = lengths
        return output


@fault(CACHE, "CA-10", with_backend)
class RejectedColumnsKept(Wrapper):
    """The KV-cache columns of ids that are taken back stay."""

    def truncate(self, state: Any, lengths: Any) -> Any:
        return self.inner.select(state, range(len(lengths)))


@fault(CACHE, "CA-09", with_backend, hard=True)
class PaddingOfShorterRowsRead(Wrapper):
    """Rows with fewer ids than others keep the padding ids in their KV cache."""

    def verify(self, ids: Any, lengths: Any, state: Any) -> Any:
        real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
        return self.inner.verify(np.where(real, ids, 0), np.full_like(lengths, ids.shape[1]), state)
