"""What each comparator must let pass and must not: the suite's own truth table."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from conformance import compare
from conformance.compare import Limit
from conformance.ledger import Judge, MistrustedError, TestRecord, summarize

LIMIT = Limit(rms=1e-3, worst=1e-2)
WAVE = np.sin(np.arange(1000) / 7)


def altered(index: int, value: float) -> np.ndarray:
    array = WAVE.astype(np.float32)
    array[index] = value
    return array


HOLDS = {
    "itself": WAVE.astype(np.float32),
    "noise below the limit": (WAVE + 5e-4 * np.cos(np.arange(1000))).astype(np.float32),
    "minus zero for zero": altered(0, -0.0),
}
BREAKS = {
    "a NaN": altered(999, np.nan),
    "an Inf": altered(5, np.inf),
    "one element beyond its limit": altered(500, WAVE[500] + 0.011),
    "small errors everywhere": (WAVE + 2e-3).astype(np.float32),
    "zeros": np.zeros(1000, np.float32),
    "inverted polarity": (-WAVE).astype(np.float32),
    "one sample late": np.roll(WAVE, 1).astype(np.float32),
    "reversed": WAVE[::-1].astype(np.float32),
    "one sample short": WAVE[:-1].astype(np.float32),
    "another shape": WAVE.astype(np.float32)[None],
    "another dtype": WAVE,
    "a list": WAVE.tolist(),
    "nothing": np.zeros(0, np.float32),
}


@pytest.mark.parametrize("name", HOLDS)
def test_close_holds_for(name):
    assert compare.floats("q", HOLDS[name], WAVE, LIMIT).fault is None


@pytest.mark.parametrize("name", BREAKS)
def test_close_breaks_for(name):
    assert compare.floats("q", BREAKS[name], WAVE, LIMIT).fault is not None


def test_close_finds_one_bad_element_in_a_million():
    expected = np.zeros(1_000_000)
    actual = expected.astype(np.float32)
    actual[654_321] = 0.02
    found = compare.floats("q", actual, expected, LIMIT)
    assert found.fault is not None
    assert found.where == (654_321,)


def test_an_expectation_that_is_not_finite_never_holds():
    expected = np.array([1.0, np.nan])
    assert compare.floats("q", expected.astype(np.float32), expected, LIMIT).fault is not None


def test_nothing_compared_with_nothing_is_a_fault():
    empty = np.zeros((2, 0), np.float32)
    assert compare.floats("q", empty, empty, LIMIT).fault is not None
    assert compare.bits("q", empty, empty).fault is not None


def test_bits_tell_minus_zero_from_zero():
    zero = np.zeros(3, np.float32)
    assert compare.bits("q", zero.copy(), zero).fault is None
    assert compare.bits("q", -zero, zero).fault is not None


@pytest.mark.parametrize(
    ("actual", "expected"),
    [([1, 2], [1, 3]), ([1, 2], [1, 2, 3]), ("a", "b"), (1, True), ((1,), [1]), (1, "1")],
)
def test_values_break_for_what_differs(actual, expected):
    assert compare.values("q", actual, expected).fault is not None


def test_values_refuse_floats():
    with pytest.raises(TypeError):
        compare.values("q", np.ones(3), np.ones(3))


@pytest.mark.parametrize("limit", [(0, 1), (1, 0), (np.inf, 1), (1, np.nan), (-1, 1)])
def test_a_limit_is_positive_and_finite(limit):
    with pytest.raises(ValueError, match="limit"):
        Limit(*limit)


def test_a_limit_that_would_forgive_zeros_is_mistrusted():
    judge = Judge(TestRecord("node", ("XX-01",), "shared"))
    with pytest.raises(MistrustedError, match="zeros"):
        judge.close("q", WAVE.astype(np.float32), WAVE, Limit(rms=1.0, worst=1.5))


def test_a_decoy_that_would_pass_is_mistrusted():
    judge = Judge(TestRecord("node", ("XX-01",), "shared"))
    with pytest.raises(MistrustedError, match="decoy"):
        judge.close("q", WAVE.astype(np.float32), WAVE, LIMIT, decoys=(HOLDS["itself"],))


def test_the_worst_test_decides_a_requirement():
    records = [
        TestRecord(f"n{i}", ("XX-01",), "shared", verdict=v)
        for i, v in enumerate(("pass", "tie", "fail", "pass"))
    ]
    assert summarize(records)["XX-01"]["verdict"] == "fail"
    assert summarize(records[:2])["XX-01"]["verdict"] == "tie"


def run(*arguments: str) -> tuple[int, str]:
    """The suite's exit status and output in a fresh process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "abacus"), "abacus"),
        (("--model", "nowhere"), "nowhere"),
        (("--requirement", "ZZ-99"), "ZZ-99"),
        (("-k", "no_such_test"), "deselected"),
    ],
)
def test_a_selection_that_selects_nothing_is_red(arguments, words):
    status, output = run("--pyargs", "conformance", *arguments)
    assert status not in (0,)
    assert words in output
