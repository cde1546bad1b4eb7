"""The truth table of the comparators: what each must let pass, and what it must not."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging import compare
from conformance.judging.compare import Limit
from conformance.judging.waveform import sounds

LIMIT = Limit(rms=1e-3, worst=1e-2)
WAVE = np.sin(np.arange(1000) / 7)
SOUND = WAVE.astype(np.float32)


def altered(index: int, value: float) -> np.ndarray:
    array = SOUND.copy()
    array[index] = value
    return array


FLOATS_HOLD = {
    "itself": SOUND,
    "noise below the limit": (WAVE + 5e-4 * np.cos(np.arange(1000))).astype(np.float32),
    "minus zero for zero": altered(0, -0.0),
    "one element just within its limit": altered(500, WAVE[500] + 0.0099),
    "memory in another order": SOUND[::-1].copy()[::-1],
}
FLOATS_BREAK = {
    "a NaN": altered(999, np.nan),
    "an Inf": altered(5, np.inf),
    "minus Inf": altered(0, -np.inf),
    "all NaN": np.full(1000, np.nan, np.float32),
    "one element beyond its limit": altered(500, WAVE[500] + 0.011),
    "small errors everywhere": (WAVE + 2e-3).astype(np.float32),
    "zeros": np.zeros(1000, np.float32),
    "a constant": np.full(1000, WAVE.mean(), np.float32),
    "inverted polarity": -SOUND,
    "half as loud": SOUND / 2,
    "one sample late": np.roll(SOUND, 1),
    "one sample early": np.roll(SOUND, -1),
    "reversed": SOUND[::-1],
    "two halves exchanged": np.roll(SOUND, 500),
    "one sample short": SOUND[:-1],
    "one sample long": np.append(SOUND, np.float32(0)),
    "another shape": SOUND[None],
    "float64": WAVE,
    "float16": WAVE.astype(np.float16),
    "integers": np.round(WAVE).astype(np.int64),
    "complex": WAVE.astype(np.complex64),
    "a list": WAVE.tolist(),
    "a number": 0.0,
    "None": None,
    "nothing": np.zeros(0, np.float32),
}


@pytest.mark.parametrize("name", FLOATS_HOLD)
def test_floats_hold_for(name):
    assert compare.floats("q", FLOATS_HOLD[name], WAVE, LIMIT).fault is None


@pytest.mark.parametrize("name", FLOATS_BREAK)
def test_floats_break_for(name):
    found = compare.floats("q", FLOATS_BREAK[name], WAVE, LIMIT)
    assert found.fault is not None
    assert found.share() > 1


def test_one_bad_element_in_a_million_is_found():
    expected = np.zeros(1_000_000)
    actual = expected.astype(np.float32)
    actual[654_321] = 0.02
    found = compare.floats("q", actual, expected, LIMIT)
    assert found.fault is not None
    assert found.where == (654_321,)
    actual[654_321], actual[999_999] = 0, np.nan
    assert compare.floats("q", actual, expected, LIMIT).fault is not None


def test_an_error_of_one_row_is_not_lost_in_the_others():
    expected = np.tile(WAVE, (64, 1))
    actual = expected.astype(np.float32)
    actual[17] += np.float32(4e-3)
    assert compare.floats("q", actual, expected, LIMIT).fault is None
    found = compare.floats("q", actual, expected, Limit(1e-3, 1e-2, row=2e-3))
    assert found.fault is not None
    assert found.where == (17,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_expectation_that_is_not_finite_never_holds(value):
    expected = np.array([1.0, value])
    assert compare.floats("q", expected.astype(np.float32), expected, LIMIT).fault is not None


def test_nothing_compared_with_nothing_is_a_fault():
    empty = np.zeros((2, 0), np.float32)
    assert compare.floats("q", empty, empty, LIMIT).fault is not None
    assert compare.bits("q", empty, empty).fault is not None


BITS_HOLD = {
    "a copy": (SOUND.copy(), SOUND),
    "the same NaN": (altered(1, np.nan), altered(1, np.nan)),
    "integers": (np.arange(5), np.arange(5)),
    "memory in another order": (np.asfortranarray(np.eye(3)), np.eye(3)),
}
BITS_BREAK = {
    "minus zero for zero": (-np.zeros(3), np.zeros(3)),
    "the next float": (np.nextafter(SOUND, np.float32(2)), SOUND),
    "one element": (altered(3, 0.25), SOUND),
    "another dtype": (SOUND.astype(np.float64), SOUND),
    "another shape": (SOUND[None], SOUND),
    "one short": (SOUND[:-1], SOUND),
    "reversed": (SOUND[::-1], SOUND),
    "zeros": (np.zeros_like(SOUND), SOUND),
    "a list": (SOUND.tolist(), SOUND),
}


@pytest.mark.parametrize("name", BITS_HOLD)
def test_bits_hold_for(name):
    assert compare.bits("q", *BITS_HOLD[name]).fault is None


@pytest.mark.parametrize("name", BITS_BREAK)
def test_bits_break_for(name):
    assert compare.bits("q", *BITS_BREAK[name]).fault is not None


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(1, 1), ("a", "a"), ([], []), ((2, 0), (2, 0)), (np.arange(3), np.arange(3)), (None, None)],
    ids=str,
)
def test_values_hold_for(actual, expected):
    assert compare.values("q", actual, expected).fault is None


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1, 2], [1, 3]), ([1, 2], [1, 2, 3]), ([2, 1], [1, 2]), ([], [0]), ("a", "b"), ("", "a"),
        (1, True), ((1,), [1]), (1, "1"), (None, 0), (np.arange(3), np.arange(4)), (0, -1),
    ],
    ids=str,
)  # fmt: skip
def test_values_break_for(actual, expected):
    assert compare.values("q", actual, expected).fault is not None


def test_values_refuse_floats():
    with pytest.raises(TypeError):
        compare.values("q", np.ones(3), np.ones(3))


@pytest.mark.parametrize(("value", "holds"), [(1, True), (0.99, True), (1.01, False)])
def test_a_number_is_at_most_its_limit(value, holds):
    assert (compare.number("q", value, 1).fault is None) is holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_exceeds_every_limit(value):
    assert compare.number("q", value, 1e300).fault is not None


@pytest.mark.parametrize("limit", [(0, 1), (1, 0), (np.inf, 1), (1, np.nan), (-1, 1), (1, 1, 0)])
def test_a_limit_is_positive_and_finite(limit):
    with pytest.raises(ValueError, match="limit"):
        Limit(*limit)


SOUND_BREAKS = {
    "one late": (np.roll(SOUND, 1), "1 samples late"),
    "three early": (np.roll(SOUND, -3), "3 samples early"),
    "inverted": (-SOUND, "inverted polarity"),
    "short": (SOUND[:-1], "999 samples, wanted 1000"),
    "long": (np.append(SOUND, np.float32(0)), "1001 samples, wanted 1000"),
    "half as loud": (SOUND / 2, "an element"),
    "one bad sample": (altered(400, 2.0), "an element"),
    "silence": (np.zeros_like(SOUND), "an element"),
    "a NaN": (altered(3, np.nan), "not finite"),
    "another type": (WAVE, "dtype"),
}


def test_sounds_hold_for_the_same_sound():
    assert sounds("q", SOUND.copy(), WAVE, LIMIT).fault is None


@pytest.mark.parametrize("name", SOUND_BREAKS)
def test_sounds_break_and_say_what_is_wrong(name):
    actual, words = SOUND_BREAKS[name]
    found = sounds("q", actual, WAVE, LIMIT)
    assert found.fault is not None
    assert words in found.fault
