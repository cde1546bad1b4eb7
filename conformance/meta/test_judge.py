"""A comparison that could not have failed is mistrusted."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging import compare
from conformance.judging.compare import Comparison, Limit
from conformance.judging.judge import Judge, MistrustedError
from conformance.judging.records import TestRecord

LIMIT = Limit(rms=1e-3, worst=1e-2)
EXPECTED = np.sin(np.arange(1000) / 7)
SAMPLES = EXPECTED.astype(np.float32)


@pytest.fixture
def record():
    return TestRecord("node", ("XX-01",), "shared")


@pytest.fixture
def judge(record):
    return Judge(record)


@pytest.mark.parametrize(
    ("mutant", "expected", "limit"),
    [
        ("zeros", EXPECTED, Limit(1.0, 1.5)),
        ("a shift by one", np.sin(np.arange(1000) * np.pi / 500) / 10, LIMIT),
        ("rows in another order", np.outer([1, 1.0001], EXPECTED), LIMIT),
        ("the quietest row", np.outer([1, 1e-4], EXPECTED), LIMIT),
    ],
)
def test_a_limit_that_accepts_a_mutant_is_mistrusted(judge, mutant, expected, limit):
    with pytest.raises(MistrustedError, match=mutant):
        judge.close("q", expected.astype(np.float32), expected, limit)


def test_a_limit_that_accepts_a_decoy_is_mistrusted(judge):
    with pytest.raises(MistrustedError, match="decoy"):
        judge.close("q", SAMPLES, EXPECTED, LIMIT, decoys=(SAMPLES + np.float32(1e-5),))


def test_a_limit_below_the_resolution_of_the_type_is_mistrusted(judge):
    large = np.full(4, 1e9, np.float32)
    with pytest.raises(MistrustedError, match="moved"):
        judge.close("q", large, large.astype(np.float64), Limit(1e-3, 1e-3))


@pytest.mark.parametrize(
    "compared",
    [
        lambda judge, a: judge.close("q", a, a, LIMIT),
        lambda judge, a: judge.bits("q", a, a),
        lambda judge, a: judge.bits("q", a[:10], a[5:15][-10:].reshape(10)),
        lambda judge, a: judge.bits("q", a, a.view()),
    ],
)
def test_an_array_compared_with_itself_is_mistrusted(judge, compared):
    constant = np.ones(1000, np.float32)
    with pytest.raises(MistrustedError, match="itself"):
        compared(judge, constant)


def test_a_list_compared_with_itself_is_mistrusted(judge):
    ids = [1, 2]
    with pytest.raises(MistrustedError, match="itself"):
        judge.equal("q", ids, ids)


class EqualToAll(list):
    """A list that equals every object."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = None


def test_a_value_that_equals_everything_is_mistrusted(judge):
    with pytest.raises(MistrustedError, match="would have passed"):
        judge.equal("q", EqualToAll([1]), EqualToAll([1]))


def always_equal(quantity, *_):
    return Comparison(quantity, 1, 0, 0)


@pytest.mark.parametrize("comparator", ["values", "shape", "bits", "floats", "number"])
def test_a_comparator_that_accepts_everything_is_mistrusted(judge, monkeypatch, comparator):
    monkeypatch.setattr(compare, comparator, always_equal)
    calls = {
        "values": lambda: judge.equal("q", [1], [2]),
        "shape": lambda: judge.shape("q", SAMPLES, (2, 3)),
        "bits": lambda: judge.bits("q", SAMPLES, -SAMPLES),
        "floats": lambda: judge.close("q", SAMPLES, -EXPECTED, LIMIT),
        "number": lambda: judge.below("q", 5, 1, wrong=7),
    }
    with pytest.raises(MistrustedError):
        calls[comparator]()


def test_an_error_of_zero_is_mistrusted_where_the_type_cannot_hold_the_values(judge, monkeypatch):
    wanted = np.linspace(-1, 1, 300)
    monkeypatch.setattr(compare, "floats", lambda *_: Comparison("q", 300, 0.0, 1e-3))
    with pytest.raises(MistrustedError, match="exactly zero"):
        judge.close("q", wanted.astype(np.float32), wanted, LIMIT)
    monkeypatch.undo()
    judge.close("q", wanted.astype(np.float32), wanted.astype(np.float32), LIMIT)


def test_an_output_that_changes_after_its_comparison_is_named(judge):
    output = EXPECTED.astype(np.float32)
    judge.close("q", output, EXPECTED, LIMIT)
    judge.require_unchanged()
    output[0] = 5
    with pytest.raises(AssertionError, match="q changed after it was compared"):
        judge.require_unchanged()


def test_an_array_of_a_subclass_is_no_array(judge):
    class Equal(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            return np.zeros(self.shape)

    with pytest.raises(AssertionError, match="got a Equal, wanted an array"):
        judge.close("q", (EXPECTED + 1).astype(np.float32).view(Equal), EXPECTED, LIMIT)


def test_a_call_that_rejects_valid_input_is_mistrusted(judge):
    def reject(*_):
        raise ValueError("no")

    with pytest.raises(MistrustedError, match="valid input"):
        judge.refuses("q", reject, ValueError, accepts=reject)


def test_a_limit_that_accepts_a_wrong_measurement_is_mistrusted(judge):
    with pytest.raises(MistrustedError, match="would have passed"):
        judge.below("q", 1, 2, wrong=1.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda judge: judge.equal("q", 1, 2),
        lambda judge: judge.shape("q", SAMPLES, (999,)),
        lambda judge: judge.bits("q", SAMPLES, -SAMPLES),
        lambda judge: judge.close("q", SAMPLES, -EXPECTED, LIMIT),
        lambda judge: judge.waveform("q", SAMPLES, -EXPECTED, LIMIT),
        lambda judge: judge.below("q", 3, 2, wrong=4),
        lambda judge: judge.refuses("q", lambda: 1, ValueError, accepts=lambda: 1),
    ],
)
def test_a_failed_comparison_is_a_failure_with_evidence(judge, record, call):
    with pytest.raises(AssertionError) as raised:
        call(judge)
    assert not isinstance(raised.value, MistrustedError)
    assert record.comparisons[0].fault


def test_comparisons_made_together_fail_once_with_every_fault(judge, record):
    def compared():
        with judge.together():
            judge.equal("first", 1, 2)
            judge.equal("second", [1], [1])
            with judge.together():
                judge.close("third", SAMPLES, -EXPECTED, LIMIT)

    with pytest.raises(AssertionError) as raised:
        compared()
    first, third = str(raised.value).splitlines()
    assert first == "first: got 1, wanted 2"
    assert third.startswith("third: off by 200 times its limit")
    assert [comparison.fault is None for comparison in record.comparisons] == [False, True, False]
    with pytest.raises(AssertionError):
        judge.equal("afterwards", 1, 2)


def test_comparisons_made_together_are_repeated_on_mutants(judge):
    with pytest.raises(MistrustedError), judge.together():
        judge.below("q", 1, 2, wrong=1.5)


def test_an_exception_does_not_hide_the_faults_found_before_it(judge):
    def compared(value):
        with judge.together():
            judge.equal("q", value, 2)
            raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        compared(2)
    with pytest.raises(AssertionError, match=r"^q: got 1, wanted 2\nthen ValueError: no$"):
        compared(1)
