"""The cases that the laws distribute cover what the contract states, and no declared limit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from conformance.golden.inputs import COUNTS, LENGTHS, LIMIT, long_sequence
from conformance.golden.packs import LEAST_MAX_LENGTH, find_pack, fitted, fixture_models
from conformance.golden.scripted_backend import ScriptedBackend, greedy_script
from conformance.judging.judge import Judge
from conformance.judging.records import TestRecord
from conformance.laws import test_decoder, test_kv_cache
from conformance.laws.support.coverage import share
from conformance.laws.support.interleaving import ThreadFailedError, concurrently
from conformance.laws.support.memory_orders import memory_orders, unchanged
from conformance.selection import SELECTION
from conformance.subject import OneRowAtATime
from soprano.backends import Capabilities

MODELS = fixture_models()


@pytest.mark.parametrize("numbers", [COUNTS, LENGTHS], ids=["tokens", "prompts"])
def test_numbers_leave_every_remainder(numbers):
    assert set(range(1, 128)) <= set(numbers)
    assert len(set(numbers)) == len(numbers)
    beyond = [number for number in numbers if 64 < number <= 512]
    for modulus in range(1, 65):
        assert {number % modulus for number in beyond} == set(range(modulus)), modulus


def test_prompts_reach_the_limit_of_the_family():
    assert {LIMIT - 1, LIMIT} <= set(LENGTHS)
    assert len(long_sequence(find_pack(MODELS[0]).arrays)) == LIMIT == max(LENGTHS)


def test_batches_have_every_size_class():
    sizes = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33}
    assert sizes <= set(test_kv_cache.SIZES)
    assert sizes <= set(test_decoder.SIZES)


def request_on(model, models):
    """What `share` needs of a test's request."""
    selection = SimpleNamespace(models=lambda backend: list(models))
    return SimpleNamespace(
        config=SimpleNamespace(stash={SELECTION: selection}),
        node=SimpleNamespace(callspec=SimpleNamespace(params={"backend": ("name", model)})),
        getfixturevalue=lambda name: model,
    )


@pytest.mark.parametrize("models", [MODELS, MODELS[:1], MODELS[2:3]], ids=["all", "one", "nano"])
def test_the_models_of_a_run_share_all_cases(models):
    shares = [share(request_on(model, models), COUNTS) for model in models]
    assert sorted(case for own in shares for case in own) == sorted(COUNTS)
    sizes = [len(own) for own in shares if own]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shape", [(5,), (1, 4), (2, 3), (1, 3, 2), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_memory_orders_have_equal_values(shape, dtype):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    orders = dict(memory_orders(array))
    for given in orders.values():
        np.testing.assert_array_equal(given, array)
        assert given.dtype == array.dtype
    assert min(orders["reversed order"].strides) < 0
    assert orders["Fortran order"].flags.f_contiguous
    assert not orders["a strided view"].flags.c_contiguous or array.size == 1
    assert not orders["a read-only array"].flags.writeable


def test_a_write_beside_a_view_is_found():
    judge = Judge(TestRecord("node", ("LM-09",), "shared"))
    given = dict(memory_orders(np.arange(5)))["a view inside a larger array"]
    with unchanged(judge, given, "ids"):
        pass
    with pytest.raises(AssertionError, match="surroundings"), unchanged(judge, given, "ids"):
        given.base[0] = 3


@pytest.mark.parametrize("length", [LEAST_MAX_LENGTH, 255, 256, 257, 700, 720, 1024, None])
def test_a_pack_is_cut_to_the_declared_maximum(length):
    pack = find_pack(MODELS[0])
    arrays = fitted(pack, length).arrays
    assert len(arrays["long ids"]) == min(length or 720, 720)
    for name in pack.arrays:
        whole = pack.arrays[name]
        np.testing.assert_array_equal(arrays[name], whole[: len(arrays[name])])
        assert len(arrays[name]) == len(whole) or name.startswith(("long", "prefix"))


def test_a_maximum_below_the_golden_prompts_is_an_error():
    with pytest.raises(LookupError, match="max_length must be at least"):
        fitted(find_pack(MODELS[0]), LEAST_MAX_LENGTH - 1)


def test_a_backend_without_batches_gets_one_row_at_a_time():
    script = greedy_script({(5, 6, 7): [9, 8], (4,): [7, 6, 5]})
    alone = ScriptedBackend(script, Capabilities(batch=False))
    backend = OneRowAtATime(alone)
    ids, lengths = np.array([[5, 6, 7], [4, 0, 0]]), np.array([3, 1])
    output = backend.prefill(ids, lengths)
    assert output.logits.argmax(axis=1).tolist() == [9, 7]
    copy = backend.fork(output.state)
    output = backend.step(np.array([9, 7]), output.state)
    assert output.logits.argmax(axis=1).tolist() == [8, 6]
    output = backend.step(np.array([7, 9]), backend.select(copy, [1, 0]))
    assert output.logits.argmax(axis=1).tolist() == [6, 8]
    assert set(alone.batch_sizes) == {1}
    assert [given.shape for given, _ in alone.prefills] == [(1, 3), (1, 1)]


class _Shared:
    """A function of its argument that passes through an attribute."""

    def __call__(self, number):
        self.number = number
        return self.number


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_that_share_a_buffer_are_found(threads):
    def wrong(function):
        jobs = [lambda number=number: function(number) for number in range(threads)]
        return sum(set(own) != {number} for number, own in enumerate(concurrently(jobs)))

    assert wrong(lambda number: number) == 0
    assert all(wrong(_Shared()) for _ in range(20))


def test_an_exception_in_a_thread_is_stated():
    def fail():
        raise OSError("busy")

    with pytest.raises(ThreadFailedError, match="OSError: busy"):
        concurrently([int, fail, int])
