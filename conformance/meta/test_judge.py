"""A judgement that could not have failed is mistrusted, whatever it compares."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging import compare
from conformance.judging.compare import Comparison, Limit
from conformance.judging.judge import Judge, MistrustedError, TestRecord

LIMIT = Limit(rms=1e-3, worst=1e-2)
WAVE = np.sin(np.arange(1000) / 7)
SOUND = WAVE.astype(np.float32)


@pytest.fixture
def record():
    return TestRecord("node", ("XX-01",), "shared")


@pytest.fixture
def judge(record):
    return Judge(record)


@pytest.mark.parametrize(
    ("wrong", "expected", "limit"),
    [
        ("zeros", WAVE, Limit(1.0, 1.5)),
        ("a shift by one", np.sin(np.arange(1000) * np.pi / 500) / 10, LIMIT),
        ("rows in another order", np.outer([1, 1.0001], WAVE), LIMIT),
        ("the quietest row silenced", np.outer([1, 1e-4], WAVE), LIMIT),
    ],
)
def test_a_limit_that_would_forgive_it_is_mistrusted(judge, wrong, expected, limit):
    with pytest.raises(MistrustedError, match=wrong):
        judge.close("q", expected.astype(np.float32), expected, limit)


def test_a_decoy_that_would_pass_is_mistrusted(judge):
    with pytest.raises(MistrustedError, match="decoy"):
        judge.close("q", SOUND, WAVE, LIMIT, decoys=(SOUND + np.float32(1e-5),))


def test_a_limit_below_what_the_type_can_tell_is_mistrusted(judge):
    loud = np.full(4, 1e9, np.float32)
    with pytest.raises(MistrustedError, match="moved"):
        judge.close("q", loud, loud.astype(np.float64), Limit(1e-3, 1e-3))


@pytest.mark.parametrize(
    "compared",
    [
        lambda judge, a: judge.close("q", a, a, LIMIT),
        lambda judge, a: judge.bits("q", a, a),
        lambda judge, a: judge.bits("q", a[:10], a[5:15][-10:].reshape(10)),
        lambda judge, a: judge.bits("q", a, a.view()),
    ],
)
def test_what_is_compared_with_itself_is_mistrusted(judge, compared):
    constant = np.ones(1000, np.float32)
    with pytest.raises(MistrustedError, match="itself"):
        compared(judge, constant)


def test_a_list_compared_with_itself_is_mistrusted(judge):
    ids = [1, 2]
    with pytest.raises(MistrustedError, match="itself"):
        judge.equal("q", ids, ids)


class Agreeable(list):
    """A container that says yes to every comparison."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None


def test_values_that_equal_everything_are_mistrusted(judge):
    with pytest.raises(MistrustedError, match="would have passed"):
        judge.equal("q", Agreeable([1]), Agreeable([1]))


@pytest.mark.parametrize("comparator", ["values", "bits", "floats", "number"])
def test_a_comparator_that_forgives_everything_is_mistrusted(judge, monkeypatch, comparator):
    monkeypatch.setattr(compare, comparator, lambda quantity, *_: Comparison(quantity, 1, 0, 0))
    calls = {
        "values": lambda: judge.equal("q", [1], [2]),
        "bits": lambda: judge.bits("q", SOUND, -SOUND),
        "floats": lambda: judge.close("q", SOUND, -WAVE, LIMIT),
        "number": lambda: judge.below("q", 5, 1, wrong=7),
    }
    with pytest.raises(MistrustedError):
        calls[comparator]()


def test_what_refuses_everything_is_mistrusted(judge):
    def never(*_: object) -> None:
        raise ValueError("no")

    with pytest.raises(MistrustedError, match="valid input"):
        judge.refuses("q", never, ValueError, accepts=never)


def test_a_measure_that_never_exceeds_its_limit_is_mistrusted(judge):
    with pytest.raises(MistrustedError, match="would have passed"):
        judge.below("q", 1, 2, wrong=1.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda judge: judge.equal("q", 1, 2),
        lambda judge: judge.bits("q", SOUND, -SOUND),
        lambda judge: judge.close("q", SOUND, -WAVE, LIMIT),
        lambda judge: judge.waveform("q", SOUND, -WAVE, LIMIT),
        lambda judge: judge.below("q", 3, 2, wrong=4),
        lambda judge: judge.refuses("q", lambda: 1, ValueError, accepts=lambda: 1),
    ],
)
def test_a_judgement_that_fails_is_a_failure_with_evidence(judge, record, call):
    with pytest.raises(AssertionError) as raised:
        call(judge)
    assert not isinstance(raised.value, MistrustedError)
    assert record.comparisons[0].fault
