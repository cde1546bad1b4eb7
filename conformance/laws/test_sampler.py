"""SA: the sampler against its definition: penalty, temperature, top-k, top-p and the draw."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.laws.sampler_probes import INF, drawn_ids, judge_intervals, sampling


@pytest.mark.requirement("SA-01")
@examples(100)
@given(
    quarters=st.lists(st.integers(-24, 24), min_size=1, max_size=24),
    seen=st.lists(st.integers(0, 23), max_size=8),
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_p=st.sampled_from([1.0, 0.9375, 0.5, 0.125]),
    top_k=st.sampled_from([0, 1, 2, 5, 50]),
    penalty=st.sampled_from([1.0, 1.2, 2.0, 0.75]),
)
def test_each_id_is_drawn_by_the_uniforms_of_its_interval(
    judge, sample_stage, quarters, seen, temperature, top_p, top_k, penalty
):
    logits = np.array(quarters, np.float32) / 4
    history = [i % len(quarters) for i in seen]
    options = sampling(temperature, top_p, top_k, penalty)
    judge_intervals(judge, sample_stage, logits, history, options)


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options",
    [
        sampling(),
        sampling(0.8, 0.95, 0, 1.2),
        sampling(0.3, 0.7, 100, 1.5),
        sampling(2.0, 0.3),
        sampling(1.0, 1.0, 50),
        sampling(2.0, 0.9, 20),
    ],
    ids=str,
)
def test_intervals_of_some_hundred_ids_are_exact(judge, sample_stage, dtype, options):
    # In sums over some hundred ids, single precision would move the edges.
    logits = np.random.default_rng(11).normal(0, 2, 500).astype(dtype)
    history = list(range(0, 500, 7))
    judge_intervals(judge, sample_stage, logits, history, options)


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize(
    "options",
    [sampling(3.0, 0.95), sampling(1.0, 1.0, 300), sampling(1.5, 0.9, 5000, 1.2)],
    ids=str,
)
def test_intervals_of_thousands_of_likely_ids_are_exact(judge, sample_stage, options):
    # Thousands of ids of similar probability: ranking only the best few is not enough.
    logits = np.random.default_rng(12).normal(0, 1, 8192).astype(np.float32)
    judge_intervals(judge, sample_stage, logits, list(range(0, 8192, 31)), options, every=37)


# By the mistake that would give another id: logits, history, options, uniform, id.
ORDER = {
    "temperature after top-p": ([2, 0, 0], [], sampling(4, top_p=0.7), 0.99, 1),
    "top-p at temperature 1": ([2, 1, 0], [], sampling(0.2, top_p=0.9), 0.999, 0),
    "top-p before top-k": ([1] * 8, [], sampling(top_p=0.5, top_k=4), 0.99, 1),
    "top-p of what top-k removed too": ([1] * 8, [], sampling(top_p=0.75, top_k=2), 0.99, 1),
    "penalty after top-k": ([3, 2.9, 0], [0], sampling(top_k=1, repetition_penalty=1.2), 0.5, 1),
    "penalty after top-p": ([3, 2.9, 0], [0], sampling(top_p=0.1, repetition_penalty=1.2), 0.5, 1),
    "penalty on log-probabilities": ([2, 1.5], [0], sampling(0, repetition_penalty=2), 0.5, 1),
    "penalty on probabilities": ([0, 0.2], [1], sampling(0, repetition_penalty=2), 0.5, 1),
    "penalty after a shift to the maximum": ([5, 4], [1], sampling(1, 0.75, 0, 0.5), 0.99, 1),
    "greedy before the penalty": ([1.1, 1.0], [0], sampling(0, repetition_penalty=1.2), 0.5, 1),
    "not renormalised": ([1] * 4, [], sampling(top_k=2), 0.49, 0),
    "drawn in the order of rank": ([0, 1, 2], [], sampling(), 0.01, 0),
}


@pytest.mark.requirement("SA-02")
@pytest.mark.parametrize("mistake", ORDER)
def test_penalty_temperature_top_k_and_top_p_come_in_this_order(judge, sample_stage, mistake):
    logits, history, options, uniform, expected = ORDER[mistake]
    for dtype in (np.float32, np.float64):
        actual = sample_stage(np.array(logits, dtype), history, options, uniform)
        judge.equal(mistake, actual, expected)


@pytest.mark.requirement("SA-03")
@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 4]), (4, [1, 2, 3, 4]), (5, [0, 1, 2, 3, 4])],
)
def test_top_k_keeps_k_ids_and_of_equal_logits_the_lowest(judge, sample_stage, top_k, expected):
    logits = np.array([0.5, 1, 1, 0.75, 1], np.float32)
    judge.equal(f"top_k={top_k}", drawn_ids(sample_stage, logits, sampling(top_k=top_k)), expected)
    all_ids = drawn_ids(sample_stage, logits, sampling(top_k=5 + top_k))
    judge.equal("k above V", all_ids, [0, 1, 2, 3, 4])


@pytest.mark.requirement("SA-03")
def test_top_k_0_keeps_every_id(judge, sample_stage):
    logits = np.zeros(200, np.float32)
    every = list(range(200))
    judge.equal("no filter", drawn_ids(sample_stage, logits, sampling(), 400), every)
    judge.equal("top_p", drawn_ids(sample_stage, logits, sampling(top_p=0.75), 400), every[:150])


@pytest.mark.requirement("SA-04")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8])
def test_top_p_keeps_the_smallest_set_that_reaches_p(judge, sample_stage, count):
    # Eight ids of probability 1/8: eighths are exact, and slightly more needs one id more.
    logits, mass = np.full(8, 3.0, np.float32), count / 8
    for top_p in (mass, math.nextafter(mass, 0), mass - 0.01):
        actual = drawn_ids(sample_stage, logits, sampling(top_p=top_p))
        judge.equal(f"top_p={top_p}", actual, list(range(count)))
    if count < 8:
        actual = drawn_ids(sample_stage, logits, sampling(top_p=mass + 2**-40))
        judge.equal("slightly more", actual, list(range(count + 1)))


@pytest.mark.requirement("SA-04")
def test_top_p_adds_probabilities_from_the_largest_down(judge, sample_stage):
    # Probabilities 1/16, 8/16, 3/16, 4/16 for ids 0 to 3.
    logits = np.log([1, 8, 3, 4])
    for top_p, expected in ((0.4, [1]), (0.6, [1, 3]), (0.8, [1, 2, 3]), (0.95, [0, 1, 2, 3])):
        actual = drawn_ids(sample_stage, logits, sampling(top_p=top_p))
        judge.equal(f"top_p={top_p}", actual, expected)


@pytest.mark.requirement("SA-05")
@pytest.mark.parametrize("top_p", [1e-3, 1e-9, 1e-45, 1e-300, 5e-324])
def test_a_tiny_top_p_keeps_the_most_probable_id(judge, sample_stage, top_p):
    for logits, best in (([0, 2, 1], 1), ([1, 1, 1], 0), ([-INF, 3, -INF], 1), ([7], 0)):
        actual = drawn_ids(sample_stage, np.array(logits, np.float32), sampling(top_p=top_p), 16)
        judge.equal(f"{logits}", actual, [best])


@pytest.mark.requirement("SA-05")
def test_top_p_1_removes_no_id(judge, sample_stage):
    logits = np.array([0.0, -30.0], np.float32)  # the second has a probability of 1e-13
    for options, expected in ((sampling(), 1), (sampling(top_p=0.999), 0)):
        judge.equal(f"{options}", sample_stage(logits, [], options, 1 - 2**-50), expected)


# Logits, history, penalty and the id that temperature 0 gives; a mistake gives the other id.
PENALTIES = {
    "positive is divided": ([1.1, 1.0], [0], 1.2, 1),
    "positive is divided by no more": ([1.3, 1.0], [0], 1.2, 0),
    "negative is multiplied": ([-1.0, -1.1], [0], 1.2, 1),
    "negative is multiplied by no more": ([-1.0, -1.3], [0], 1.2, 0),
    "zero is unchanged": ([0.0, -1e-30], [0], 100.0, 0),
    "both signs": ([1.1, 1.0, -1.0], [0, 2], 1.2, 1),
    "once for an id that occurs twice": ([1.3, 1.0], [0, 0], 1.2, 0),
    "once for an id that occurs often": ([-1.0, -1.3], [0] * 5, 1.2, 0),
    "first id of the history": ([1.0, 1.1, 0.9], [1, 2, 2], 1.2, 0),
    "last id of the history": ([1.0, 1.1, 0.9], [2, 2, 1], 1.2, 0),
    "long ago": ([1.1, 1.0, 0.1], [0] + [2] * 400, 1.2, 1),
    "1 changes nothing": ([1.1, 1.0], [0], 1.0, 0),
    "below 1 raises": ([1.0, 1.1], [0], 0.5, 0),
    "below 1 raises a negative": ([-1.1, -1.0], [0], 0.5, 0),
    "of logits that become equal the lowest id": ([1.0, 2.0], [1], 2.0, 0),
    "no history": ([1.0, 1.1], [], 1.2, 1),
    "minus infinity stays": ([-INF, -5.0], [0, 1], 0.5, 1),
}


@pytest.mark.requirement("SA-06")
@pytest.mark.parametrize("case", PENALTIES)
def test_repetition_penalty_applies_once_to_each_id_of_the_history(judge, sample_stage, case):
    logits, history, penalty, expected = PENALTIES[case]
    for dtype in (np.float32, np.float64):
        options = sampling(0, repetition_penalty=penalty)
        actual = sample_stage(np.array(logits, dtype), history, options, None)
        judge.equal(f"{case}, {dtype.__name__}", actual, expected)


@pytest.mark.requirement("SA-06")
def test_history_may_be_a_list_or_an_array(judge, sample_stage):
    logits, options = np.array([1.1, 1.0, 0.0], np.float32), sampling(0, repetition_penalty=1.2)
    for history in ([0, 2], (2, 0), np.array([0, 2]), np.array([0, 2], np.int32)):
        judge.equal(repr(history), sample_stage(logits, history, options, None), 1)
    for empty in ([], (), np.array([], np.int64)):
        judge.equal(repr(empty), sample_stage(logits, empty, options, None), 0)


@pytest.mark.requirement("SA-07")
@pytest.mark.parametrize("history", [[-1], [3], [0, 2**40], [0, -3]], ids=str)
def test_history_outside_the_vocabulary_is_rejected(judge, sample_stage, history):
    logits = np.array([1.1, 1.0, 0.0], np.float32)
    options = sampling(0, repetition_penalty=1.2)
    judge.refuses(
        "history",
        lambda: sample_stage(logits, history, options, None),
        ValueError,
        accepts=lambda: sample_stage(logits, [0, 2], options, None),
    )
