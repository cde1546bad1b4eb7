"""What failures say: places, missing parts, first differences and inputs, in domain terms."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.packs import find_pack, fixture_models
from conformance.hypothesis_profiles import examples
from conformance.judging import compare
from conformance.judging.compare import Limit, of_limit
from conformance.judging.divergence import judge_ids
from conformance.judging.judge import Judge
from conformance.judging.places import usual
from conformance.judging.records import TestRecord
from conformance.judging.sequences import difference
from conformance.judging.vectors import Vectors
from conformance.report import failures
from soprano.checkpoint.folder import ModelFolder

MODEL = next(path for path in fixture_models() if path.name == "v11")
CONFIG = ModelFolder.open(MODEL).config
BINS, PER_TOKEN = CONFIG.decoder.bins, CONFIG.decoder.samples_per_token


@pytest.fixture(scope="module")
def vectors():
    return Vectors(find_pack(MODEL), CONFIG)


@pytest.fixture
def judge():
    return Judge(TestRecord("node", ("XX-01",), "shared"), CONFIG.decoder)


def fault_of(judged):
    with pytest.raises(AssertionError) as raised:
        judged()
    return str(raised.value)


def flat(token_counts, frame, index, part):
    """The index in joined spectra: the last of the given utterances is the one that is meant."""
    frames = [CONFIG.decoder.frames(tokens) for tokens in token_counts]
    before = sum(BINS * count * 2 for count in frames[:-1])
    return (before + np.ravel_multi_index((index, frame, part), (BINS, frames[-1], 2)),)


GOLDEN_PLACES = [
    ("prefix logits", (3, 42), "logits after 31 ids (row 3), id 42"),
    ("prefix logits", (0, 42), "logits after 1 id (row 0), id 42"),
    ("prefix hidden", (4, 7), "hidden after 32 ids (row 4), channel 7"),
    ("prefill logits", (6,), "logits after 6 ids (row 6)"),
    ("step logits", (6, 12, 45), "prompt 6 (6 ids), step 12, id 45"),
    ("step hidden", (6, 12), "prompt 6 (6 ids), step 12"),
    ("vocabulary hidden", (1, 3), "hidden after 6 ids (row 1), channel 3"),
    ("long 256-512 hidden", (1, 3), "hidden after 259 ids (row 1), channel 3"),
    ("long 256-512 logits", (1, 3), "logits after 265 ids (row 1), id 3"),
    ("greedy hidden", (0, 3), "hidden after 24 ids (row 0), channel 3"),
    ("spectrum", flat([1], 0, 0, 1), "spectrum of 1 token, frame 0, bin 0 (DC), imaginary part"),
    (
        "spectrum",
        flat([1, 2, 3, 5, 9], 12, 0, 0),
        "spectrum of 9 tokens, frame 12, bin 0 (DC), real part",
    ),
    (
        "spectrum",
        flat([1, 2, 3, 5, 9, 16, 2, 2], 4, BINS - 1, 0),
        "spectrum of 2 tokens (hidden states times 0.001), "
        f"frame 4, bin {BINS - 1} (Nyquist), real part",
    ),
    ("samples", (3 * PER_TOKEN + 5,), "samples of 5 tokens, sample 5 (token 0 of 5)"),
    ("greedy samples", (8 * PER_TOKEN,), f"sample {8 * PER_TOKEN} (token 8 of 64)"),
]


@pytest.mark.parametrize(("quantity", "where", "place"), GOLDEN_PLACES)
def test_an_element_of_a_golden_array_is_named(vectors, judge, quantity, where, place):
    expected, limit = vectors.expected(quantity), vectors.limit(quantity)
    assert vectors.places(quantity).at(where, expected.shape) == place
    if len(where) == expected.ndim:
        wrong = expected.astype(np.float32)
        wrong[where] += 1000 * limit.worst
        places = vectors.places(quantity)
        fault = fault_of(lambda: judge.close(quantity, wrong, expected, limit, places=places))
        assert f" at {place}: got " in fault
        assert f"1 of {expected.size:,} elements is beyond it" in fault
        elsewhere = expected.astype(np.float32)
        elsewhere[tuple(i - 1 for i in where)] += 1000 * limit.worst
        other = fault_of(lambda: judge.close(quantity, elsewhere, expected, limit, places=places))
        assert f" at {place}: got " not in other


def test_silent_bins_are_not_counted_in_the_place_of_a_relative_spectrum(vectors):
    expected, places = vectors.arrays["spectrum"], vectors.places("relative spectrum")
    shape = vectors.expected("relative spectrum").shape
    first = places.at((0,), shape)
    assert first == "spectrum of 1 token, frame 0, bin 1, real part"  # bin 0 is silent
    kept = np.flatnonzero(expected.reshape(-1, 2).any(axis=1))
    for index in (1, 998, 9999):
        where = (2 * int(kept[index // 2]) + index % 2,)
        assert places.at((index,), shape) == vectors.places("spectrum").at(where, expected.shape)


def test_a_part_of_a_spectrum_keeps_its_bins_and_frames(vectors):
    part = np.ones((BINS, 9, 2), np.float32)[1::7, [2, 5]]
    places = vectors.flat_places(part, "spectrum", slice(1, None, 7), [2, 5])
    assert places.at((6,), (part.size,)) == "frame 5, bin 8, real part"
    last = places.at((part.size - 1,), (part.size,))
    assert last == f"frame 5, bin {BINS - 1} (Nyquist), imaginary part"


@pytest.mark.parametrize(
    ("quantity", "shape", "where", "place"),
    [
        ("split logits", (3, 91), (1, 42), "row 1, id 42"),
        ("step 81 hidden", (3, 5, 48), (1, 2, 7), "row 1, step 2, channel 7"),
        ("samples", (1024,), (1000,), f"sample 1000 (token {1000 // PER_TOKEN} of 9)"),
        ("samples", (2, 1024), (1, 0), "row 1, sample 0 (token 0 of 9)"),
        ("9 tokens, spectrum", (BINS, 33, 2), (0, 12, 0), "frame 12, bin 0 (DC), real part"),
        ("spectrum", (2, BINS, 33, 2), (1, 2, 3, 1), "row 1, frame 3, bin 2, imaginary part"),
        ("spectrum", (9, 33, 2), (0, 12, 0), "frame 12, bin 0, real part"),  # of some bins
        ("something else", (3, 4), (1, 2), "index 1, 2"),
        ("something else", (), (), ""),
    ],
)
def test_the_name_of_a_quantity_gives_the_usual_places(quantity, shape, where, place):
    assert usual(quantity, shape, CONFIG.decoder).at(where, shape) == place


TOO_FEW = f"8 tokens ({8 * PER_TOKEN:,} samples) missing (0 instead of {8 * PER_TOKEN:,})"


@pytest.mark.parametrize(
    ("quantity", "actual", "expected", "fault"),
    [
        ("spectrum", (BINS, 34, 2), (BINS, 33, 2), "1 frame too many (34 instead of 33)"),
        (
            "spectrum",
            (BINS - 1, 33, 2),
            (BINS, 33, 2),
            f"1 bin missing ({BINS - 1} instead of {BINS})",
        ),
        ("logits", (12, 90), (12, 91), "1 id missing (90 instead of 91)"),
        ("logits", (91,), (1, 91), "shape (91,), wanted (1, 91) (row, id)"),
        (
            "hidden",
            (11, 50),
            (12, 48),
            "1 row missing (11 instead of 12), 2 channels too many (50 instead of 48)",
        ),
        ("samples", (0,), (8 * PER_TOKEN,), TOO_FEW),
        ("something else", (3, 4), (4, 3), "shape (3, 4), wanted (4, 3)"),
    ],
)
def test_another_shape_is_stated_by_what_is_missing_or_too_many(
    judge, quantity, actual, expected, fault
):
    array = np.ones(actual, np.float32)
    assert fault_of(lambda: judge.shape(quantity, array, expected)) == f"{quantity}: {fault}"
    wanted, limit = np.ones(expected), Limit(1e-3, 1e-3)
    assert fault_of(lambda: judge.close(quantity, array, wanted, limit)) == f"{quantity}: {fault}"


IDS = list(range(100, 140))


@pytest.mark.parametrize(
    ("quantity", "actual", "expected", "fault"),
    [
        (
            "ids",
            [*IDS[:13], 5, *IDS[14:]],
            IDS,
            "id 13 of 40: got 5, wanted 113 after ... 110, 111, 112",
        ),
        ("ids", [7, *IDS[1:]], IDS, "id 0 of 40: got 7, wanted 100"),
        (
            "ids",
            IDS[:-1],
            IDS,
            "39 ids, wanted 40: 1 missing after ... 136, 137, 138, the first is 139",
        ),
        (
            "ids",
            [*IDS, 3, 4],
            IDS,
            "42 ids, wanted 40: 2 too many after ... 137, 138, 139, the first is 3",
        ),
        ("ids", IDS[1:], IDS, "id 0 of 40: got 101, wanted 100; 39 ids, wanted 40"),
        (
            "ids and finish",
            (IDS, "stop"),
            ([*IDS[:2], 9, *IDS[3:]], "stop"),
            "item 0 of 2: id 2 of 40: got 102, wanted 9 after 100, 101",
        ),
        (
            "ids and finish",
            (IDS, "stop"),
            (list(IDS), "length"),
            "item 1 of 2: got 'stop', wanted 'length'",
        ),
        (
            "sentences",
            ["one.", "two."],
            ["one.", "to."],
            "item 1 of 2: got 'two.', wanted 'to.' after 'one.'",
        ),
        ("numbers", [3], [3, 4], "1 item, wanted 2: 1 missing after 3, the first is 4"),
        ("shape", (12, 90), (12, 91), "got (12, 90), wanted (12, 91)"),
        ("text", "so\u00adft", "soft", "got 'so<U+00AD>ft', wanted 'soft'"),
        ("text", "e\u0301", "é", "got 'e<U+0301>', wanted 'é'"),
        (
            "text",
            "a" * 50 + "b" * 50,
            "a" * 50 + "c" * 49,
            "character 50 of 99: got '...aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb...', "
            "wanted '...aaaaaaaaaaaaaaaacccccccccccccccc...'; 100 characters, wanted 99",
        ),
        ("count", 1, True, "got 1, wanted True (int and bool)"),
    ],
)
def test_the_first_difference_is_stated_with_what_is_before_it(
    judge, quantity, actual, expected, fault
):
    assert fault_of(lambda: judge.equal(quantity, actual, expected)) == f"{quantity}: {fault}"
    assert str(IDS) not in fault


def test_an_array_where_an_error_was_wanted_is_stated_by_its_shape(judge):
    def call():
        return np.zeros((2, 7), np.float32)

    fault = fault_of(lambda: judge.refuses("one bin", call, ValueError, accepts=call))
    assert fault == "one bin: got an array of float32 (2, 7), wanted ValueError"


def test_two_differences_have_two_messages():
    one = difference([*IDS[:13], 5, *IDS[14:]], IDS, "id")
    other = difference([*IDS[:14], 5, *IDS[15:]], IDS, "id")
    assert (one[0], other[0]) == ((13,), (14,))
    assert one[1] != other[1]


def test_ids_that_are_no_tie_are_stated_with_the_margin(judge):
    actual = [*IDS[:13], 5, *IDS[14:]]
    fault = fault_of(lambda: judge_ids(judge, actual, IDS, lambda index: 2.5, 0.01))
    assert fault == (
        "ids and margin: id 13 of 40: got 5, wanted 113 after ... 110, 111, 112 "
        "(margin 2.5; that of a tie is at most 0.01)"
    )
    assert judge_ids(judge, actual, IDS, lambda index: 0.005, 0.01)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.284, "28% of its limit"),
        (1.0, "100% of its limit"),
        (1.04, "1.04 times its limit"),
        (3.14159, "3.14 times its limit"),
        (11235.4, "11,235 times its limit"),
        (1.2e9, "1.2e+09 times its limit"),
    ],
)
def test_an_error_beyond_its_limit_is_a_multiple(ratio, text):
    assert of_limit(ratio) == text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(value):
    actual = np.ones((3, 4), np.float32)
    actual[1, 2] = actual[2, 3] = value
    result = compare.floats("q", actual, np.ones((3, 4)), Limit(1.0, 1.0))
    assert str(result) == f"q: 2 of 12 elements are not finite, the first at index 1, 2: {value}"
    assert result.used() == np.inf
    assert result.worst == 0


def test_errors_too_large_to_be_squared_have_a_size():
    result = compare.floats("q", np.full(4, 1e300), np.zeros(4), Limit(1.0, 1.0), np.float64)
    assert result.rms == pytest.approx(1e300)
    assert "inf" not in str(result)


@examples(20)
@given(text=st.text(min_size=1), count=st.integers(0, 3))
def fails_for_every_text(judge, text, count):
    judge.equal("letters", len(text) + count, -1)


@examples(20)
@given(text=st.text())
def breaks_for_long_texts(judge, text):
    if len(text) > 2:
        raise IndexError("string index out of range")
    judge.equal("letters", len(text), len(text))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (fails_for_every_text, "letters: got 1, wanted -1; input: text = '0', count = 0"),
        (breaks_for_long_texts, "IndexError: string index out of range; input: text = '000'"),
    ],
)
def test_a_property_states_its_smallest_input(judge, law, message):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever a law raises
        law(judge)
    assert any("test case" in note or "example" in note for note in raised.value.__notes__)
    error = failures.in_own_words(raised.value)
    assert failures.message(error) == message
    (note,) = error.__notes__
    assert message.endswith(f"; {note}")


def test_a_property_without_arguments_of_its_own_adds_no_note():
    @examples(5)
    @given(data=st.data())
    def law(data):
        raise IndexError(str(data.draw(st.integers())))

    with pytest.raises(IndexError) as raised:
        law()
    assert len(raised.value.__notes__) > 1
    error = failures.in_own_words(raised.value)
    assert error.__notes__ == []
    assert failures.message(error) == "IndexError: 0"


def test_a_property_that_fails_only_once_is_said_to_vary(judge):
    calls = []

    @examples(5)
    @given(number=st.integers())
    def law(number):
        calls.append(number)
        judge.equal("answer", len(calls) == 1, False)

    with pytest.raises(Exception) as raised:  # noqa: PT011 - the library's own exception
        law()
    assert failures.message(failures.in_own_words(raised.value)) == (
        "answer: got True, wanted False; input: number = 0; the same input passes in another run"
    )


def test_other_exceptions_keep_their_kind():
    error = failures.in_own_words(KeyError("lm_head"))
    assert failures.message(error) == "KeyError: 'lm_head'"
    assert failures.message(failures.in_own_words(AssertionError("a\nb"))) == "a\nb"
    assert failures.message(failures.in_own_words(struct.error("no"))) == "struct.error: no"
    assert failures.message(failures.in_own_words(EOFError())) == "EOFError"
