"""SA: random streams, against Philox written from its definition, and ranges of the options."""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.oracle.sampler import philox, random_stream
from soprano.config import SamplingOptions

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
