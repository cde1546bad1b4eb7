"""The truth table of the comparators: what each must accept and what it must reject."""

from __future__ import annotations

import re

import numpy as np
import pytest

from conformance.judging import compare
from conformance.judging.compare import Limit
from conformance.judging.places import samples
from conformance.judging.waveform import compare_waveforms

LIMIT = Limit(rms=1e-3, worst=1e-2)
EXPECTED = np.sin(np.arange(1000) / 7)
SAMPLES = EXPECTED.astype(np.float32)


def altered(index, value):
    array = SAMPLES.copy()
    array[index] = value
    return array


FLOATS_ACCEPTED = {
    "the expectation in float32": SAMPLES,
    "noise below the limit": (EXPECTED + 5e-4 * np.cos(np.arange(1000))).astype(np.float32),
    "minus zero for zero": altered(0, -0.0),
    "one element just within its limit": altered(500, EXPECTED[500] + 0.0099),
    "memory in another order": SAMPLES[::-1].copy()[::-1],
}
FLOATS_REJECTED = {
    "a NaN": altered(999, np.nan),
    "an Inf": altered(5, np.inf),
    "minus Inf": altered(0, -np.inf),
    "all NaN": np.full(1000, np.nan, np.float32),
    "one element beyond its limit": altered(500, EXPECTED[500] + 0.011),
    "small errors everywhere": (EXPECTED + 2e-3).astype(np.float32),
    "zeros": np.zeros(1000, np.float32),
    "a constant": np.full(1000, EXPECTED.mean(), np.float32),
    "inverted polarity": -SAMPLES,
    "half the amplitude": SAMPLES / 2,
    "delayed by one sample": np.roll(SAMPLES, 1),
    "advanced by one sample": np.roll(SAMPLES, -1),
    "reversed": SAMPLES[::-1],
    "rotated by half": np.roll(SAMPLES, 500),
    "one sample fewer": SAMPLES[:-1],
    "one sample more": np.append(SAMPLES, np.float32(0)),
    "another shape": SAMPLES[None],
    "float64": EXPECTED,
    "float16": EXPECTED.astype(np.float16),
    "integers": np.round(EXPECTED).astype(np.int64),
    "complex": EXPECTED.astype(np.complex64),
    "a list": EXPECTED.tolist(),
    "a number": 0.0,
    "None": None,
    "an empty array": np.zeros(0, np.float32),
}


@pytest.mark.parametrize("name", FLOATS_ACCEPTED)
def test_floats_within_the_limit_are_accepted(name):
    assert compare.floats("q", FLOATS_ACCEPTED[name], EXPECTED, LIMIT).fault is None


@pytest.mark.parametrize("name", FLOATS_REJECTED)
def test_floats_beyond_the_limit_are_rejected(name):
    result = compare.floats("q", FLOATS_REJECTED[name], EXPECTED, LIMIT)
    assert result.fault is not None
    assert result.used() > 1
    assert np.isfinite([result.worst, result.rms, result.row]).all()
    assert not re.search(r"\binf\b \(|at \(\)", str(result))


def test_one_bad_element_in_a_million_is_found():
    expected = np.zeros(1_000_000)
    actual = expected.astype(np.float32)
    actual[654_321] = 0.02
    result = compare.floats("q", actual, expected, LIMIT)
    assert result.fault is not None
    assert result.where == (654_321,)
    actual[654_321], actual[999_999] = 0, np.nan
    assert compare.floats("q", actual, expected, LIMIT).fault is not None


def test_the_rms_of_each_row_has_a_limit_of_its_own():
    expected = np.tile(EXPECTED, (64, 1))
    actual = expected.astype(np.float32)
    actual[17] += np.float32(4e-3)
    assert compare.floats("q", actual, expected, LIMIT).fault is None
    result = compare.floats("q", actual, expected, Limit(1e-3, 1e-2, row=2e-3))
    assert result.fault is not None
    assert result.where == (17,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_expectation_that_is_not_finite_is_rejected(value):
    expected = np.array([1.0, value])
    assert compare.floats("q", expected.astype(np.float32), expected, LIMIT).fault is not None


def test_a_comparison_of_empty_arrays_is_rejected():
    empty = np.zeros((2, 0), np.float32)
    assert compare.floats("q", empty, empty, LIMIT).fault is not None
    assert compare.bits("q", empty, empty).fault is not None


BITS_ACCEPTED = {
    "a copy": (SAMPLES.copy(), SAMPLES),
    "the same NaN": (altered(1, np.nan), altered(1, np.nan)),
    "integers": (np.arange(5), np.arange(5)),
    "memory in another order": (np.asfortranarray(np.eye(3)), np.eye(3)),
}
BITS_REJECTED = {
    "minus zero for zero": (-np.zeros(3), np.zeros(3)),
    "the next float": (np.nextafter(SAMPLES, np.float32(2)), SAMPLES),
    "one other element": (altered(3, 0.25), SAMPLES),
    "another dtype": (SAMPLES.astype(np.float64), SAMPLES),
    "another shape": (SAMPLES[None], SAMPLES),
    "one element fewer": (SAMPLES[:-1], SAMPLES),
    "reversed": (SAMPLES[::-1], SAMPLES),
    "zeros": (np.zeros_like(SAMPLES), SAMPLES),
    "a list": (SAMPLES.tolist(), SAMPLES),
}


@pytest.mark.parametrize("name", BITS_ACCEPTED)
def test_equal_bits_are_accepted(name):
    assert compare.bits("q", *BITS_ACCEPTED[name]).fault is None


@pytest.mark.parametrize("name", BITS_REJECTED)
def test_different_bits_are_rejected(name):
    result = compare.bits("q", *BITS_REJECTED[name])
    assert result.fault is not None
    assert str(result) == f"q: {result.fault}"


def test_elements_that_differ_are_counted():
    other = SAMPLES.copy()
    other[[5, 7, 900]] += np.float32(0.5)
    fault = compare.bits("q", other, SAMPLES).fault
    assert fault.startswith("3 of 1,000 elements differ, the first at index 5: got ")
    assert fault.endswith("; the largest difference is 0.5")


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(1, 1), ("a", "a"), ([], []), ((2, 0), (2, 0)), (np.arange(3), np.arange(3)), (None, None)],
    ids=str,
)
def test_equal_values_are_accepted(actual, expected):
    assert compare.values("q", actual, expected).fault is None


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1, 2], [1, 3]), ([1, 2], [1, 2, 3]), ([2, 1], [1, 2]), ([], [0]), ("a", "b"), ("", "a"),
        (1, True), ((1,), [1]), (1, "1"), (None, 0), (np.arange(3), np.arange(4)), (0, -1),
    ],
    ids=str,
)  # fmt: skip
def test_different_values_are_rejected(actual, expected):
    assert compare.values("q", actual, expected).fault is not None


def test_floats_are_not_compared_as_values():
    with pytest.raises(TypeError):
        compare.values("q", np.ones(3), np.ones(3))


@pytest.mark.parametrize(("value", "holds"), [(1, True), (0.99, True), (1.01, False)])
def test_a_measured_number_is_at_most_its_limit(value, holds):
    assert (compare.number("q", value, 1).fault is None) is holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_exceed_every_limit(value):
    assert compare.number("q", value, 1e300).fault is not None


@pytest.mark.parametrize("limit", [(0, 1), (1, 0), (np.inf, 1), (1, np.nan), (-1, 1), (1, 1, 0)])
def test_a_limit_must_be_positive_and_finite(limit):
    with pytest.raises(ValueError, match="limit"):
        Limit(*limit)


WAVEFORMS_REJECTED = {
    "delayed by one sample": (np.roll(SAMPLES, 1), "1 sample late; off by "),
    "advanced by three samples": (np.roll(SAMPLES, -3), "3 samples early"),
    "inverted polarity": (-SAMPLES, "inverted polarity; "),
    "half the amplitude": (SAMPLES / 2, "the level is 0.5 times the expected one; "),
    "half of the samples at half the amplitude": (
        np.where(np.arange(1000) < 500, SAMPLES, SAMPLES / 2),
        "off by 50 times its limit at sample 517 (token 5 of 11): got -0.499779, wanted -0.999559; "
        "500 of 1,000 elements are beyond it",
    ),
    "one sample fewer": (SAMPLES[:-1], "1 sample missing at the end; the others agree"),
    "one sample more": (
        np.append(SAMPLES, np.float32(0)),
        "1 sample too many at the end; the others agree",
    ),
    "the last tokens missing": (SAMPLES[:-200], "2 tokens (200 samples) missing at the end"),
    "the first token missing": (SAMPLES[100:], "1 token (100 samples) missing at the start"),
    "silence in front": (
        np.append(SAMPLES[:100] * 0, SAMPLES),
        "1 token (100 samples) too many at",
    ),
    "a token missing in the middle": (
        np.delete(SAMPLES, slice(400, 500)),
        "1 token (100 samples) missing at sample 400 (token 4 of 11); the samples before and after",
    ),
    "the last token missing, and the one before it wrong": (
        np.append(SAMPLES[:850], -SAMPLES[850:900]),
        "1 token (100 samples) missing towards the end; only the first 850 samples agree",
    ),
    "another length and other samples": (
        -SAMPLES[:-5],
        "5 samples missing; the others differ too, from sample 1 (token 0 of 11)",
    ),
    "no samples": (SAMPLES[:0], "10 tokens (1,000 samples) missing: got "),
    "one bad sample": (
        altered(400, 2.0),
        "off by 144 times its limit at sample 400 (token 4 of 11)",
    ),
    "zeros": (np.zeros_like(SAMPLES), "off by 100 times"),
    "a NaN": (
        altered(3, np.nan),
        "1 of 1,000 elements is not finite, the first at sample 3 (token 0",
    ),
    "another type": (EXPECTED, "dtype float64, wanted float32"),
}


def test_a_copy_of_a_waveform_is_accepted():
    assert compare_waveforms("q", SAMPLES.copy(), EXPECTED, LIMIT).fault is None


@pytest.mark.parametrize("name", WAVEFORMS_REJECTED)
def test_a_rejected_waveform_states_the_simplest_difference(name):
    actual, fault = WAVEFORMS_REJECTED[name]
    result = compare_waveforms("q", actual.astype(actual.dtype), EXPECTED, LIMIT, samples(100))
    assert result.fault is not None
    assert result.fault.startswith(fault)


def test_a_lag_of_whole_tokens_is_stated_in_tokens():
    noise = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    late = np.append(np.zeros(200, np.float32), noise[:-200])
    fault = compare_waveforms("q", late, noise, LIMIT, samples(100)).fault
    assert fault.startswith("2 tokens (200 samples) late; ")
    assert not compare_waveforms("q", noise[::-1], noise, LIMIT).fault.startswith("2 tokens")
