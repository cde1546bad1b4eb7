"""SA: the sampler of this package in float64, its random streams, and ranges of the options."""

import math
from decimal import Decimal
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.oracle.sampler import intervals, philox, random_stream
from conformance.oracle.sampler_conventions import SINGLE_PRECISION
from soprano.config import SamplingOptions

INF = math.inf
PLAIN = SamplingOptions(1.0, 1.0, 0, 1.0)


def probes(defined):
    """(id, uniform) at both ends and in the middle of every interval.

    The ends keep a millionth of the interval from its edges, where float64 decides correctly.
    Intervals too narrow for that are left to the tests of edges.
    """
    return [
        (i, float(start + (stop - start) * Decimal(part)))
        for i, (start, stop) in defined.items()
        if stop - start > Decimal(2**-24)
        for part in (2**-20, 0.5, 1 - 2**-20)
    ]


def judge_intervals(judge, sample, logits, history, options, every=1):
    """Judge the uniforms of each id, or of every n-th, that can be drawn."""
    expected = probes(intervals(logits, history, options))[::every]
    actual = [sample(np.asarray(logits), history, options, uniform) for _, uniform in expected]
    judge.equal(f"ids under {options}", actual, [i for i, _ in expected])


@pytest.mark.requirement("SA-26")
@examples(100)
@given(
    quarters=st.lists(st.integers(-24, 24), min_size=1, max_size=24),
    seen=st.lists(st.integers(0, 23), max_size=8),
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_p=st.sampled_from([1.0, 0.9375, 0.5, 0.125]),
    top_k=st.sampled_from([0, 1, 2, 5, 50]),
    penalty=st.sampled_from([1.0, 1.2, 2.0, 0.75]),
)
def test_each_id_is_drawn_by_exactly_the_uniforms_of_its_interval(
    judge, shared, quarters, seen, temperature, top_p, top_k, penalty
):
    logits = np.array(quarters, np.float32) / 4
    history = [i % len(quarters) for i in seen]
    options = SamplingOptions(temperature, top_p, top_k, penalty)
    judge_intervals(judge, shared.sample, logits, history, options)


@pytest.mark.requirement("SA-26")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        SamplingOptions(0.8, 0.95, 0, 1.2),
        SamplingOptions(0.3, 0.7, 100, 1.5),
        SamplingOptions(2.0, 0.9, 20, 1.0),
    ],
    ids=str,
)
def test_intervals_of_some_hundred_ids_are_exact(judge, shared, dtype, options):
    # In sums over some hundred ids, single precision would move the edges.
    logits = np.random.default_rng(11).normal(0, 2, 500).astype(dtype)
    judge_intervals(judge, shared.sample, logits, list(range(0, 500, 7)), options)


@pytest.mark.requirement("SA-26")
def test_edges_are_those_of_doubles(judge, shared):
    logits, edge = np.zeros(1024, np.float32), 0.5 - 2.0**-54
    single = SINGLE_PRECISION(logits, [], PLAIN, edge)
    chosen = shared.sample(logits, [], PLAIN, edge)
    judge.not_following(
        "drawn in single precision", ["drawn in single precision"] * (chosen == single)
    )
    judge.equal("id just below an edge", chosen, 511)


@pytest.mark.requirement("SA-26")
def test_intervals_of_thousands_of_likely_ids_are_exact(judge, shared):
    logits = np.random.default_rng(12).normal(0, 1, 8192).astype(np.float32)
    options = SamplingOptions(1.5, 0.9, 5000, 1.2)
    judge_intervals(judge, shared.sample, logits, list(range(0, 8192, 31)), options, every=97)


def drawn_ids(sample, logits, options, count=16):
    """The ids that `count` uniforms, spread evenly over [0, 1), draw, each once."""
    return sorted({sample(logits, [], options, index / count) for index in range(count)})


@pytest.mark.requirement("SA-27")
@pytest.mark.parametrize("top_p", [1e-9, 1e-45, 1e-300, 5e-324])
def test_a_tiny_top_p_keeps_the_most_probable_id(judge, shared, top_p):
    options = SamplingOptions(1.0, top_p, 0, 1.0)
    for logits, best in (([0, 2, 1], 1), ([1, 1, 1], 0), ([-INF, 3, -INF], 1), ([7], 0)):
        drawn = drawn_ids(shared.sample, np.array(logits, np.float32), options)
        judge.equal(f"{logits}", drawn, [best])


@pytest.mark.requirement("SA-27")
@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-300])
@pytest.mark.filterwarnings("error")
def test_largest_logits_share_the_probability_at_tiny_temperatures(judge, shared, temperature):
    options = SamplingOptions(temperature, 1.0, 0, 1.0)
    one, two = np.array([1.0, 3.0, 2.0]), np.array([3.0, 0.0, 3.0])
    judge.equal("one largest logit", drawn_ids(shared.sample, one, options), [1])
    halves = [shared.sample(two, [], options, uniform) for uniform in (0, 0.49, 0.5, 0.99)]
    judge.equal("two largest logits", halves, [0, 0, 2, 2])


@pytest.mark.requirement("SA-27")
@pytest.mark.parametrize(
    ("dtype", "size"), [("f4", 1e30), ("f4", 3e38), ("f8", 1e30), ("f8", 1e300)]
)
@pytest.mark.filterwarnings("error")
def test_extreme_logits_do_not_overflow(judge, shared, dtype, size):
    cases = (([0, 1, -1], [1]), ([-1, -1, -1], [0, 1, 2]), ([1, 0.5, 1], [0, 2]), ([-0.5, -1], [0]))
    for parts, expected in cases:
        logits = np.array(parts, dtype) * np.array(size, dtype)
        for temperature in (1.0, 0.5, 100.0):
            options = SamplingOptions(temperature, 1.0, 0, 1.0)
            judge.equal(f"{logits}", drawn_ids(shared.sample, logits, options, 64), expected)


@pytest.mark.requirement("SA-28")
def test_history_may_be_a_list_a_tuple_or_an_array(judge, shared):
    logits, options = np.array([1.1, 1.0, 0.0], np.float32), SamplingOptions(0.0, 1.0, 0, 1.2)
    for history in ([0, 2], (2, 0), np.array([0, 2]), np.array([0, 2], np.int32)):
        judge.equal(repr(history), shared.sample(logits, history, options, None), 1)
    for empty in ([], (), np.array([], np.int64)):
        judge.equal(repr(empty), shared.sample(logits, empty, options, None), 0)


# (seed, sentence, attempt)
KEYS = ((0, 0, 0), (42, 0, 1), (7, 3, 2), (2**64 - 1, 2**32 - 1, 2**32 - 1), (2**63, 1, 0))


def exact(values):
    return [value.hex() for value in values]


@pytest.mark.requirement("SA-16")
def test_philox_of_the_oracle_gives_the_published_answers(judge):
    # The known answers that the authors publish with Random123.
    answers = [
        (0, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (2**64 - 1, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    ]
    for word, answer in answers:
        words = [f"{result:016x}" for result in philox([word] * 4, [word] * 2)]
        judge.equal(f"{word:x}", " ".join(words), answer)


@pytest.mark.requirement("SA-16")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_draws_are_the_doubles_of_philox(judge, shared, key):
    actual = list(islice(shared.uniforms(*key), 41))
    judge.equal(f"{key}", exact(actual), exact(random_stream(*key, 41)))


@pytest.mark.requirement("SA-16")
@examples(100)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_every_bit_of_a_seed_counts(judge, shared, seed, sentence, attempt):
    # From 2^53 + 1, a conversion to double would make neighbouring seeds equal.
    for key in ((seed, sentence, attempt), (seed | 2**53 | 1, sentence, attempt)):
        actual = list(islice(shared.uniforms(*key), 5))
        judge.equal(f"{key}", exact(actual), exact(random_stream(*key, 5)))


# From `random_stream`, not from the package.
GOLDEN = {
    (0, 0, 0): [0.011546754286331562, 0.24154919656271812, 0.11142585551493822,
                0.5644146216071337, 0.5023796042735054, 0.27760557688455356],
    (42, 0, 1): [0.443746921343274, 0.8163920951010332, 0.5090261862073765,
                 0.3876186430208992, 0.024987588963674146, 0.3475830176997383],
    (7, 3, 2): [0.9157235959598546, 0.9496309010114453, 0.748433709578526,
                0.6999868075483524, 0.14316072398839752, 0.9694065457475364],
}  # fmt: skip


@pytest.mark.requirement("SA-16")
@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_draws_are_the_golden_values(judge, shared, key):
    judge.equal(f"{key}", exact(list(islice(shared.uniforms(*key), 6))), exact(GOLDEN[key]))


@pytest.mark.requirement("SA-17")
def test_seed_sentence_and_attempt_each_select_another_stream(judge, shared):
    keys = [(s, n, a) for s in (0, 1, 2**32) for n in (0, 1, 5) for a in (0, 1, 5)]
    starts = {tuple(islice(shared.uniforms(*key), 4)) for key in keys}
    judge.equal("different streams", len(starts), len(keys))


@pytest.mark.requirement("SA-17")
def test_interleaved_streams_do_not_affect_each_other(judge, shared):
    np.random.seed(1)  # NumPy's global state must have no effect
    streams = {key: shared.uniforms(*key) for key in KEYS}
    draws = {key: [] for key in KEYS}
    for turn in range(24):
        for index, key in enumerate(KEYS):
            if turn % (index + 1) == 0:
                draws[key].append(next(streams[key]))
        np.random.random()
    for key, values in draws.items():
        judge.equal(f"{key}", exact(values), exact(random_stream(*key, len(values))))


@pytest.mark.requirement("SA-20")
def test_default_sampling_options(judge):
    actual = {name: str(value) for name, value in vars(SamplingOptions()).items()}
    expected = {"temperature": "0.0", "top_p": "0.95", "top_k": "0", "repetition_penalty": "1.2"}
    judge.equal("defaults", list(actual.items()), list(expected.items()))


@pytest.mark.requirement("SA-21")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
        ("temperature", "1"), ("top_p", 0.0), ("top_p", -0.5), ("top_p", 1.01),
        ("top_p", math.nan), ("top_k", -1), ("top_k", 1.5), ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.2), ("repetition_penalty", math.nan),
    ],
)  # fmt: skip
def test_options_outside_their_range_are_rejected(judge, name, value):
    message = judge.refuses(
        name,
        lambda: SamplingOptions(**{name: value}),
        ValueError,
        TypeError,
        accepts=lambda: SamplingOptions(**{name: 1}),
    )
    judge.equal("the message names the option", name in message, True)
