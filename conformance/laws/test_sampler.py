"""SA: the sampler against its definition: penalty, temperature, top-k, top-p and the draw.

The inputs of a requirement use no other part of the sampler than the one it is about.
"""

import math

import numpy as np
import pytest

from conformance.laws.support.memory_orders import accepted, memory_orders, unchanged
from conformance.laws.support.sampler_probes import (
    frequencies,
    in_every_interval,
    judge_draws,
    likely,
    places,
    sampling,
)
from conformance.own_stages import PUBLISHED_VOCABULARY

# Distinct logits of equal probability, as near as a draw can tell.
EQUAL = [-0.001 * i for i in range(8)]


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize(
    "values",
    [[0.0], [0, 0], [1, 0, 2], [2, 1.5, -1, 0, 1], [-3, -4, -2, -2], [20, 19, 21]],
    ids=str,
)
def test_each_id_is_drawn_by_the_uniforms_of_its_interval(judge, sample_stage, values):
    logits = likely(sample_stage.size, values)
    judge_draws(
        judge, sample_stage, logits, in_every_interval(logits, (0.01, 0.5, 0.99)), sampling()
    )


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0])
def test_every_id_of_the_vocabulary_is_drawn_by_its_uniforms(judge, sample_stage, deviation):
    rng = np.random.default_rng(11)
    logits = rng.normal(0, deviation, sample_stage.size).astype(np.float32)
    uniforms = in_every_interval(logits)
    judge_draws(judge, sample_stage, logits, uniforms[:: 1 + len(uniforms) // 400], sampling())


@pytest.mark.requirement("SA-01")
def test_ids_of_the_published_vocabulary_are_drawn_by_their_uniforms(judge, sample_stage):
    size = sample_stage.nearest(PUBLISHED_VOCABULARY)
    logits = np.random.default_rng(12).normal(0, 1, size).astype(np.float32)
    judge_draws(judge, sample_stage, logits, np.linspace(0.0005, 0.9995, 150), sampling())


# By the mistake that would give other ids: values, history, options, and how many of 64 uniforms
# draw each id. Each case needs two of the steps.
ORDER = {
    "temperature after top-p": ([2, 0.01, 0], [], sampling(4, top_p=0.7), {0: 40, 1: 24}),
    "top-p at temperature 1": ([2, 1, 0], [], sampling(0.2, top_p=0.9), {0: 64}),
    "top-p before top-k": (EQUAL, [], sampling(1, 0.55, 4), {0: 21, 1: 22, 2: 21}),
    "penalty after top-k": ([3, 2.9, 0], [0], sampling(1, 1, 1, 1.2), {1: 64}),
    "penalty after top-p": ([3, 2.9, 0], [0], sampling(1, 0.1, 0, 1.2), {1: 64}),
    "penalty on log-probabilities": ([2, 1.5], [0], sampling(1, 1, 1, 2), {1: 64}),
    "penalty on probabilities": ([0, 0.2], [1], sampling(1, 1, 1, 2), {1: 64}),
    "penalty after a shift to the maximum": ([5, 4], [1], sampling(1, 1, 1, 0.5), {1: 64}),
    "not renormalised after top-k": (EQUAL, [], sampling(1, 1, 2), {0: 32, 1: 32}),
    "not renormalised after top-p": (EQUAL, [], sampling(1, 0.2), {0: 32, 1: 32}),
}


@pytest.mark.requirement("SA-02")
@pytest.mark.parametrize("mistake", ORDER)
def test_penalty_temperature_top_k_and_top_p_come_in_this_order(judge, sample_stage, mistake):
    values, history, options, expected = ORDER[mistake]
    drawn = frequencies(sample_stage, values, options, history, 64)
    judge.equal(mistake, list(drawn.items()), list(expected.items()))


@pytest.mark.requirement("SA-03")
@pytest.mark.parametrize("top_k", [1, 2, 3, 5, 11, 12, 13])
def test_top_k_keeps_the_k_largest_logits(judge, sample_stage, top_k):
    values = [0.2 * ((5 * i) % 12) for i in range(12)]  # distinct, and their order is not the ids'
    largest = sorted(range(12), key=lambda i: -values[i])[:top_k]
    drawn = frequencies(sample_stage, values, sampling(top_k=top_k))
    judge.equal(f"top_k={top_k}", sorted(drawn), sorted(largest))


@pytest.mark.requirement("SA-03")
def test_top_k_0_and_top_k_of_the_vocabulary_keep_every_id(judge, sample_stage):
    values = [0.01 * ((7 * i) % 60) for i in range(60)]
    size = sample_stage.size
    for top_k, expected in ((50, 50), (0, 60), (size - 1, 60), (size, 60), (size + 5, 60)):
        drawn = frequencies(sample_stage, values, sampling(top_k=top_k))
        largest = sorted(range(60), key=lambda i: -values[i])[:expected]
        judge.equal(f"top_k={top_k} of {size} ids", sorted(drawn), sorted(largest))


@pytest.mark.requirement("SA-04")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8])
def test_top_p_keeps_the_smallest_set_that_reaches_p(judge, sample_stage, count):
    # Eight ids of probability 1/8: p lies between the sums of count - 1 and of count ids.
    for part in (0.1, 0.5, 0.9):
        top_p = (count - 1 + part) / 8
        drawn = frequencies(sample_stage, EQUAL, sampling(top_p=top_p), count=64)
        judge.equal(f"top_p={top_p}", sorted(drawn), list(range(count)))


@pytest.mark.requirement("SA-04")
def test_top_p_adds_probabilities_from_the_largest_down(judge, sample_stage):
    # Probabilities 1/16, 8/16, 3/16, 4/16 for ids 0 to 3.
    values = np.log([1, 8, 3, 4]).tolist()
    for top_p, expected in ((0.4, [1]), (0.6, [1, 3]), (0.8, [1, 2, 3]), (0.97, [0, 1, 2, 3])):
        drawn = frequencies(sample_stage, values, sampling(top_p=top_p))
        judge.equal(f"top_p={top_p}", sorted(drawn), expected)


@pytest.mark.requirement("SA-04")
def test_top_p_of_dozens_of_ids(judge, sample_stage):
    values = [0.005 * ((7 * i) % 80) for i in range(80)]
    ranked = sorted(range(80), key=lambda i: -values[i])
    mass = np.cumsum(np.exp(sorted(values, reverse=True)))
    for count in (1, 17, 55, 79):
        top_p = float((mass[count - 1] - 0.5 * math.exp(values[ranked[count - 1]])) / mass[-1])
        drawn = frequencies(sample_stage, values, sampling(top_p=top_p))
        judge.equal(f"top_p={top_p}", sorted(drawn), sorted(ranked[:count]))


@pytest.mark.requirement("SA-04")
def test_top_p_of_thousands_of_ids(judge, sample_stage):
    # Ranking only the best few hundred is not enough.
    size, top_p = sample_stage.nearest(PUBLISHED_VOCABULARY), 0.95
    logits = np.random.default_rng(13).normal(0, 1, size).astype(np.float32)
    ranked = np.argsort(-logits)
    kept = int(np.searchsorted(np.cumsum(np.exp(logits[ranked])), top_p * np.exp(logits).sum()))
    rank = {int(i): place for place, i in enumerate(ranked)}
    uniforms = np.linspace(0.001, 0.999, 60).tolist()
    drawn = [rank[int(sample_stage(logits.copy(), [], sampling(top_p=top_p), u))] for u in uniforms]
    judge.equal(f"ranks beyond the first {kept:,}", [i for i in drawn if i > kept + 1], [])
    judge.equal("the less probable half is drawn", max(drawn) > kept // 2, True)


@pytest.mark.requirement("SA-05")
def test_a_small_top_p_keeps_the_most_probable_id(judge, sample_stage):
    for top_p in (0.2, 0.01, 1e-4):
        for values, best in (([0, 2, 1], 1), ([1, 0.9, 0.8], 0), ([7], 0)):
            drawn = frequencies(sample_stage, values, sampling(top_p=top_p), count=16)
            judge.equal(f"{values}, top_p={top_p}", list(drawn), [best])


@pytest.mark.requirement("SA-05")
def test_top_p_1_removes_no_id(judge, sample_stage):
    # The second id has a probability of 0.0009, in the last uniforms or in the first.
    ids, logits = places(sample_stage.size, 2), likely(sample_stage.size, [0, -7])
    for options, expected in ((sampling(), ids), (sampling(top_p=0.99), ids[:1])):
        edges = (0.0002, 0.0006, 0.9994, 0.9998)
        drawn = {sample_stage(logits.copy(), [], options, u) for u in edges}
        judge.equal(f"{options}", sorted(drawn), expected)


# Values, history, penalty and the id that has most of the probability; a mistake gives the other.
PENALTIES = {
    "positive is divided": ([33, 30], [0], 1.2, 1),
    "positive is divided by no more": ([39, 30], [0], 1.2, 0),
    "negative is multiplied": ([-30, -33], [0], 1.2, 1),
    "negative is multiplied by no more": ([-30, -39], [0], 1.2, 0),
    "zero is unchanged": ([0, -4], [0], 100, 0),
    "both signs": ([33, 30, -30], [0, 2], 1.2, 1),
    "once for an id that occurs twice": ([39, 30], [0, 0], 1.2, 0),
    "once for an id that occurs often": ([-30, -39], [0] * 5, 1.2, 0),
    "once for an id that occurs in prompt and utterance": ([39, 30, 0], [0, 2, 2, 0, 2], 1.2, 0),
    "first id of the history": ([30, 33, 27], [1, 2, 2], 1.2, 0),
    "last id of the history": ([30, 33, 27], [2, 2, 1], 1.2, 0),
    "1 changes nothing": ([33, 30], [0], 1.0, 0),
    "below 1 raises": ([30, 33], [0], 0.5, 0),
    "below 1 raises a negative": ([-33, -30], [0], 0.5, 0),
    "no history": ([30, 33], [], 1.2, 1),
}


@pytest.fixture
def most_probable(sample_stage):
    """The id that the sampler gives where one id has nine tenths of the probability.

    A port that is judged greedily is asked at temperature 0.
    """
    temperature = float(sample_stage.capabilities.uniforms)

    def ask(logits, history, penalty):
        options = sampling(temperature, repetition_penalty=penalty)
        return int(sample_stage(logits, history, options, 0.5 if temperature else None))

    return ask


@pytest.mark.requirement("SA-06")
@pytest.mark.parametrize("case", PENALTIES)
def test_repetition_penalty_applies_once_to_each_id_of_the_history(
    judge, sample_stage, most_probable, case
):
    values, history, penalty, expected = PENALTIES[case]
    ids = places(sample_stage.size, len(values))
    logits = likely(sample_stage.size, values)
    judge.equal(case, most_probable(logits, [ids[i] for i in history], penalty), ids[expected])


@pytest.mark.requirement("SA-06")
@pytest.mark.parametrize("length", [2, 65, 257, 512, 1024])
def test_repetition_penalty_applies_wherever_the_id_is_in_the_history(
    judge, sample_stage, most_probable, length
):
    first, second, *others = places(sample_stage.size, 40)
    logits = likely(sample_stage.size, [33, 30, *range(-38, 0)])
    filler = (others * length)[:length]
    judge.equal("no id", most_probable(logits, list(filler), 1.2), first)
    for place in sorted({0, 1, length // 2, length - 65, length - 1} & set(range(length))):
        history = [*filler[:place], first, *filler[place + 1 :]]
        actual = most_probable(logits, history, 1.2)
        judge.equal(f"place {place} of {length:,}", actual, second)


@pytest.mark.requirement("SA-06")
def test_repetition_penalty_applies_to_each_of_hundreds_of_ids(judge, sample_stage, most_probable):
    # All ids but one are penalised; every id is the exception once in a while.
    size = sample_stage.size
    for kept in (0, 1, 2, 3, size // 2, size - 1):
        history = [i for i in range(size) if i != kept][:1023]
        logits = np.full(size, 30, np.float32)
        judge.equal(f"all but id {kept}", most_probable(logits, history, 1.5), kept)


@pytest.mark.requirement("SA-08")
def test_temperature_0_is_argmax_for_any_uniform(judge, sample_stage):
    cases = (([1, 3, 2], 1), ([0, 1e-6, 0], 1), ([1, 1 + 2**-20], 1), ([-3, -2.999999], 1))
    for values, best in cases:
        ids, logits = places(sample_stage.size, len(values)), likely(sample_stage.size, values)
        for uniform in (None, 0.0, 0.5, 0.999):
            for top_p, top_k in ((1.0, 0), (0.95, 0), (0.01, 3)):
                actual = sample_stage(logits.copy(), [], sampling(0, top_p, top_k), uniform)
                judge.equal(f"{values}, uniform {uniform}", int(actual), ids[best])


@pytest.mark.requirement("SA-08")
def test_temperature_0_gives_the_most_probable_id_after_the_penalty(
    judge, sample_stage, most_probable
):
    # The most probable id is the sampler's own, so that a wrong penalty is told by SA-06.
    ids, logits = places(sample_stage.size, 3), likely(sample_stage.size, [33, 30, -30])
    for history in ([], [0], [0, 1], [1]):
        seen = [ids[i] for i in history]
        actual = sample_stage(logits.copy(), list(seen), sampling(0, 1, 0, 1.2), None)
        judge.equal(f"history {history}", int(actual), most_probable(logits.copy(), seen, 1.2))


@pytest.mark.requirement("SA-08")
@pytest.mark.parametrize("count", [2, 3, 17, 64])
def test_temperature_0_takes_the_lowest_of_equal_logits(judge, sample_stage, count):
    ids = places(sample_stage.size, count + 1)
    for first in {0, 1, count // 2}:
        values = [1.0] * first + [2.0] * (count + 1 - first)
        actual = sample_stage(likely(sample_stage.size, values), [], sampling(0), None)
        judge.equal(f"{count + 1 - first} equal logits", int(actual), ids[first])


@pytest.mark.requirement("SA-09")
@pytest.mark.parametrize("temperature", [0.1, 0.25, 0.7, 1.0, 1.5, 3.0, 10.0])
def test_logits_are_divided_by_the_temperature(judge, sample_stage, temperature):
    # The probabilities 3/4 and 1/4, whichever id comes first.
    gap = temperature * math.log(3)
    for values, expected in (([gap, 0], [(0, 48), (1, 16)]), ([-9, gap - 9], [(0, 16), (1, 48)])):
        drawn = frequencies(sample_stage, values, sampling(temperature), count=64)
        judge.equal(f"temperature {temperature}", list(drawn.items()), expected)


@pytest.mark.requirement("SA-09")
@pytest.mark.parametrize("temperature", [1e-2, 1e-3])
def test_largest_logits_share_the_probability_at_low_temperatures(judge, sample_stage, temperature):
    for values, expected in (([1, 3, 2], [(1, 64)]), ([3, 0, 3], [(0, 32), (2, 32)])):
        drawn = frequencies(sample_stage, values, sampling(temperature), count=64)
        judge.equal(f"{values}", list(drawn.items()), expected)


@pytest.mark.requirement("SA-15")
def test_sampling_modifies_neither_logits_nor_history(judge, sample_stage):
    logits = likely(sample_stage.size, [1.1, -1.0, 1.0])
    history, before = places(sample_stage.size, 3)[1::-1] * 2, logits.copy()
    kept = list(history)
    for temperature in (0.0, 1.0) if sample_stage.capabilities.uniforms else (0.0,):
        options = sampling(temperature, 0.9, 2, 1.2)
        uniform = 0.3 if temperature else None
        ids = [int(sample_stage(logits, history, options, uniform)) for _ in range(2)]
        judge.equal("second call", ids[0], ids[1])
    judge.bits("logits", logits, before)
    judge.equal("history", history, kept)


@pytest.mark.requirement("SA-29")
def test_the_memory_order_of_the_logits_has_no_effect(judge, sample_stage):
    # Each id is the best one in turn, so that logits from another place give another id.
    size = sample_stage.size
    drawn = (sampling(), 0.5) if sample_stage.capabilities.uniforms else (sampling(0), None)
    for best in (1, size // 3, size - 2):
        logits = np.where(np.arange(size) == best, 40, -40 - np.arange(size) / size)
        for order, given in memory_orders(logits.astype(np.float32)):
            with unchanged(judge, given, f"logits in {order}"):
                chosen = accepted(lambda given=given: sample_stage(given, [], *drawn))
            if chosen is not None:
                judge.equal(f"id, logits in {order}", int(chosen), best)


@pytest.mark.requirement("SA-23")
@pytest.mark.parametrize("count", [2, 17, 64])
def test_of_equal_logits_top_k_keeps_the_lowest_ids(judge, sample_stage, count):
    equal, larger = [1.0] * count, [3.0, 4.0]  # the larger ones are the last
    for kept in sorted({1, count // 2, count - 1}):
        drawn = frequencies(sample_stage, equal, sampling(top_k=kept))
        judge.equal(f"top_k={kept} of {count} equal logits", sorted(drawn), list(range(kept)))
        drawn = frequencies(sample_stage, [*equal, *larger], sampling(3, top_k=kept + 2))
        expected = [*range(kept), count, count + 1]
        judge.equal(f"top_k={kept + 2}, two larger logits", sorted(drawn), expected)
