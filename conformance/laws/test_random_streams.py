"""SA: the uniforms, judged by a Philox of its own, and the ids that they draw."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judging import tolerances
from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from conformance.oracle.sampler import Sample, intervals, options
from soprano.config import SamplingOptions
from soprano.sampling import uniforms

_MASK = 2**64 - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3)."""
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & _MASK, (key[1] + 0xBB67AE8584CAA73B) & _MASK]
    return counter


def stream_of(seed: int, sentence: int, attempt: int, count: int) -> list[float]:
    """The first doubles of a stream: 53 upper bits of each word, blocks counted from 1."""
    words: list[int] = []
    while len(words) < count:
        words += philox([len(words) // 4 + 1, 0, 0, 0], [seed, sentence * 2**32 + attempt])
    return [(word >> 11) / 2**53 for word in words[:count]]


KEYS = ((0, 0, 0), (42, 0, 1), (7, 3, 2), (2**64 - 1, 2**32 - 1, 2**32 - 1), (2**63, 1, 0))


def exact(values: list[float]) -> list[str]:
    return [value.hex() for value in values]


@pytest.mark.requirement("SA-16")
def test_the_philox_of_this_test_gives_its_authors_answers(judge: Judge) -> None:
    # The known answers that come with the authors' Random123.
    answers = [
        (0, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (_MASK, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    ]
    for fill, answer in answers:
        words = [f"{word:016x}" for word in philox([fill] * 4, [fill] * 2)]
        judge.equal(f"{fill:x}", " ".join(words), answer)


@pytest.mark.requirement("SA-16")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_draws_are_the_doubles_of_philox(judge: Judge, key: tuple[int, int, int]) -> None:
    actual = list(islice(uniforms(*key), 41))
    judge.equal(f"{key}", exact(actual), exact(stream_of(*key, 41)))


@pytest.mark.requirement("SA-16")
@examples(100)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_every_bit_of_a_seed_counts(judge: Judge, seed: int, sentence: int, attempt: int) -> None:
    # 2^53 + 1 and above: where numbers are doubles, neighbouring seeds fall together.
    for key in ((seed, sentence, attempt), (seed | 2**53 | 1, sentence, attempt)):
        actual = list(islice(uniforms(*key), 5))
        judge.equal(f"{key}", exact(actual), exact(stream_of(*key, 5)))


# From `stream_of`, not from the package.
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
def test_draws_are_the_golden_ones(judge: Judge, key: tuple[int, int, int]) -> None:
    judge.equal(f"{key}", exact(list(islice(uniforms(*key), 6))), exact(GOLDEN[key]))


@pytest.mark.requirement("SA-17")
def test_seed_sentence_and_attempt_each_have_a_stream_of_their_own(judge: Judge) -> None:
    keys = [(s, n, a) for s in (0, 1, 2**32) for n in (0, 1, 5) for a in (0, 1, 5)]
    firsts = {tuple(islice(uniforms(*key), 4)) for key in keys}
    judge.equal("different streams", len(firsts), len(keys))


@pytest.mark.requirement("SA-17")
def test_streams_do_not_touch_each_other(judge: Judge) -> None:
    np.random.seed(1)  # a global state that must not matter
    streams = {key: uniforms(*key) for key in KEYS}
    found: dict[Any, list[float]] = {key: [] for key in KEYS}
    for turn in range(24):
        for place, key in enumerate(KEYS):
            if turn % (place + 1) == 0:
                found[key].append(next(streams[key]))
        np.random.random()
    for key, draws in found.items():
        judge.equal(f"{key}", exact(draws), exact(stream_of(*key, len(draws))))


def golden_logits(step: int) -> list[float]:
    """The logits of one step: the same thirteen, each time at other places."""
    return [((7 * i + 5 * step) % 13) / 4 - 1.5 for i in range(13)]


# From `intervals` and `stream_of`, not from the package.
GOLDEN_IDS = {
    options(1.0, 1.0, 0, 1.0): [11, 12, 7, 7, 2, 12, 3, 6, 8, 12, 5, 5, 11, 9, 1, 11],
    options(0.7, 0.95, 0, 1.2): [11, 12, 5, 7, 4, 11, 3, 6, 9, 12, 2, 5, 9, 10, 1, 11],
    options(2.0, 0.5, 0, 1.0): [11, 12, 9, 7, 2, 11, 3, 6, 7, 12, 7, 5, 8, 9, 1, 11],
    options(1.0, 1.0, 3, 1.5): [11, 12, 4, 7, 6, 11, 3, 6, 9, 12, 2, 5, 8, 11, 1, 4],
    options(0.0, 1.0, 0, 1.2): [11, 1, 4, 7, 10, 0, 3, 6, 9, 12, 2, 5, 8, 11, 1, 4],
}


@pytest.mark.requirement("SA-18")
@pytest.mark.parametrize("how", GOLDEN_IDS, ids=str)
def test_sampled_ids_are_the_golden_ones(
    judge: Judge, sample_stage: Sample, how: SamplingOptions
) -> None:
    ids = [2]  # a prompt
    for step, uniform in enumerate(stream_of(7, 3, 2, 16)):
        logits = np.array(golden_logits(step), np.float32)
        ids.append(sample_stage(logits, ids, how, uniform))
    judge.equal(f"{how}", ids[1:], GOLDEN_IDS[how])


@pytest.mark.requirement("SA-19")
def test_draws_are_distributed_as_defined(judge: Judge, sample_stage: Sample) -> None:
    from scipy.stats import chi2

    logits, history = np.array([2, 1.5, -1, 0, 1, 0.5, -3, -2], np.float32), [1, 2]
    how, count = options(1.3, 0.97, 7, 1.2), 8192
    found = intervals(logits, history, how)
    stream = uniforms(3, 1)
    draws = [sample_stage(logits, history, how, next(stream)) for _ in range(count)]
    judge.equal("ids drawn", sorted(set(draws)), sorted(found))

    def statistic(shares: dict[int, float]) -> float:
        wanted = {i: count * share for i, share in shares.items()}
        return sum((draws.count(i) - mean) ** 2 / mean for i, mean in wanted.items())

    limit = float(chi2.isf(tolerances.SIGNIFICANCE, len(found) - 1))
    shares = {i: float(high - low) for i, (low, high) in found.items()}
    colder = intervals(logits, history, options(1.2, 0.97, 7, 1.2))
    wrong = {i: float(high - low) for i, (low, high) in colder.items()}
    judge.below("chi-square", statistic(shares), limit, count, wrong=statistic(wrong))
