"""SA: the sampler, judged by its definition: penalty, top-k, top-p and the draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judging.judge import Judge
from conformance.oracle.sampler import EXPLORED, INF, Sample, drawn, judge_intervals, options
from soprano.config import SamplingOptions


@pytest.mark.requirement("SA-01")
@EXPLORED
@given(
    quarters=st.lists(st.integers(-24, 24), min_size=1, max_size=24),
    seen=st.lists(st.integers(0, 23), max_size=8),
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_p=st.sampled_from([1.0, 0.9375, 0.5, 0.125]),
    top_k=st.sampled_from([0, 1, 2, 5, 50]),
    penalty=st.sampled_from([1.0, 1.2, 2.0, 0.75]),
)
def test_each_id_has_its_defined_interval(
    judge: Judge, sample_stage: Sample, quarters: list[int], seen: list[int],
    temperature: float, top_p: float, top_k: int, penalty: float,
) -> None:  # fmt: skip
    logits = np.array(quarters, np.float32) / 4
    history = [i % len(quarters) for i in seen]
    how = options(temperature, top_p, top_k, penalty)
    judge_intervals(judge, sample_stage, logits, history, how)


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "how",
    [
        options(),
        options(0.8, 0.95, 0, 1.2),
        options(0.3, 0.7, 100, 1.5),
        options(2.0, 0.3),
        options(1.0, 1.0, 50),
        options(2.0, 0.9, 20),
    ],
    ids=str,
)
def test_many_ids_have_their_defined_intervals(
    judge: Judge, sample_stage: Sample, dtype: Any, how: SamplingOptions
) -> None:
    # Sums over some hundred ids: single precision would move the edges.
    logits = np.random.default_rng(11).normal(0, 2, 500).astype(dtype)
    history = list(range(0, 500, 7))
    judge_intervals(judge, sample_stage, logits, history, how)


@pytest.mark.requirement("SA-01")
@pytest.mark.parametrize(
    "how",
    [options(3.0, 0.95), options(1.0, 1.0, 300), options(1.5, 0.9, 5000, 1.2)],
    ids=str,
)
def test_a_wide_choice_of_a_whole_vocabulary_has_its_defined_intervals(
    judge: Judge, sample_stage: Sample, how: SamplingOptions
) -> None:
    # Thousands of ids about as likely as each other: whoever ranks the best few alone is seen.
    logits = np.random.default_rng(12).normal(0, 1, 8192).astype(np.float32)
    judge_intervals(judge, sample_stage, logits, list(range(0, 8192, 31)), how, every=37)


# Each line: what would give the other answer; logits, history, options, uniform, id.
ORDER: dict[str, tuple[list[float], list[int], SamplingOptions, float, int]] = {
    "temperature after top-p": ([2, 0, 0], [], options(4, top_p=0.7), 0.99, 1),
    "top-p at temperature 1": ([2, 1, 0], [], options(0.2, top_p=0.9), 0.999, 0),
    "top-p before top-k": ([1] * 8, [], options(top_p=0.5, top_k=4), 0.99, 1),
    "top-p of the whole mass": ([1] * 8, [], options(top_p=0.75, top_k=2), 0.99, 1),
    "penalty after top-k": ([3, 2.9, 0], [0], options(top_k=1, repetition_penalty=1.2), 0.5, 1),
    "penalty after top-p": ([3, 2.9, 0], [0], options(top_p=0.1, repetition_penalty=1.2), 0.5, 1),
    "penalty on log-probabilities": ([2, 1.5], [0], options(0, repetition_penalty=2), 0.5, 1),
    "penalty on probabilities": ([0, 0.2], [1], options(0, repetition_penalty=2), 0.5, 1),
    "penalty after a shift to the maximum": ([5, 4], [1], options(1, 0.75, 0, 0.5), 0.99, 1),
    "greedy before the penalty": ([1.1, 1.0], [0], options(0, repetition_penalty=1.2), 0.5, 1),
    "not renormalised": ([1] * 4, [], options(top_k=2), 0.49, 0),
    "drawn in the order of rank": ([0, 1, 2], [], options(), 0.01, 0),
}


@pytest.mark.requirement("SA-02")
@pytest.mark.parametrize("other", ORDER)
def test_the_steps_come_in_their_order(judge: Judge, sample_stage: Sample, other: str) -> None:
    logits, history, how, uniform, expected = ORDER[other]
    for dtype in (np.float32, np.float64):
        judge.equal(other, sample_stage(np.array(logits, dtype), history, how, uniform), expected)


@pytest.mark.requirement("SA-03")
@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 4]), (4, [1, 2, 3, 4]), (5, [0, 1, 2, 3, 4])],
)
def test_top_k_keeps_the_best_and_of_equals_the_lowest(
    judge: Judge, sample_stage: Sample, top_k: int, expected: list[int]
) -> None:
    logits = np.array([0.5, 1, 1, 0.75, 1], np.float32)
    judge.equal(f"top_k={top_k}", drawn(sample_stage, logits, options(top_k=top_k)), expected)
    everything = drawn(sample_stage, logits, options(top_k=5 + top_k))
    judge.equal("more than there are", everything, [0, 1, 2, 3, 4])


@pytest.mark.requirement("SA-03")
def test_without_top_k_every_id_can_be_drawn(judge: Judge, sample_stage: Sample) -> None:
    logits = np.zeros(200, np.float32)
    every = list(range(200))
    judge.equal("no filter", drawn(sample_stage, logits, options(), 400), every)
    judge.equal("top_p", drawn(sample_stage, logits, options(top_p=0.75), 400), every[:150])


@pytest.mark.requirement("SA-04")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8])
def test_top_p_keeps_the_smallest_prefix_that_reaches_it(
    judge: Judge, sample_stage: Sample, count: int
) -> None:
    # Eight equal ids of 1/8 each: eighths are exact, and a hair more needs one id more.
    logits, share = np.full(8, 3.0, np.float32), count / 8
    for top_p, kept in ((share, count), (math.nextafter(share, 0), count), (share - 0.01, count)):
        actual = drawn(sample_stage, logits, options(top_p=top_p))
        judge.equal(f"top_p={top_p}", actual, list(range(kept)))
    if count < 8:
        actual = drawn(sample_stage, logits, options(top_p=share + 2**-40))
        judge.equal("a hair more", actual, list(range(count + 1)))


@pytest.mark.requirement("SA-04")
def test_top_p_counts_mass_from_the_best_down(judge: Judge, sample_stage: Sample) -> None:
    # Probabilities 1/16, 8/16, 3/16, 4/16 for ids 0 to 3.
    logits = np.log([1, 8, 3, 4])
    for top_p, expected in ((0.4, [1]), (0.6, [1, 3]), (0.8, [1, 2, 3]), (0.95, [0, 1, 2, 3])):
        judge.equal(f"top_p={top_p}", drawn(sample_stage, logits, options(top_p=top_p)), expected)


@pytest.mark.requirement("SA-05")
@pytest.mark.parametrize("top_p", [1e-3, 1e-9, 1e-45, 1e-300, 5e-324])
def test_a_tiny_top_p_keeps_the_best_id(judge: Judge, sample_stage: Sample, top_p: float) -> None:
    for logits, best in (([0, 2, 1], 1), ([1, 1, 1], 0), ([-INF, 3, -INF], 1), ([7], 0)):
        actual = drawn(sample_stage, np.array(logits, np.float32), options(top_p=top_p), 16)
        judge.equal(f"{logits}", actual, [best])


@pytest.mark.requirement("SA-05")
def test_with_top_p_1_no_id_is_too_rare(judge: Judge, sample_stage: Sample) -> None:
    logits = np.array([0.0, -30.0], np.float32)  # 1e-13
    for how, expected in ((options(), 1), (options(top_p=0.999), 0)):
        judge.equal(f"{how}", sample_stage(logits, [], how, 1 - 2**-50), expected)


# Logits, history, penalty, the id of the highest score; the second best is what a mistake gives.
PENALTIES: dict[str, tuple[list[float], list[int], float, int]] = {
    "positive is divided": ([1.1, 1.0], [0], 1.2, 1),
    "positive is divided by no more": ([1.3, 1.0], [0], 1.2, 0),
    "negative is multiplied": ([-1.0, -1.1], [0], 1.2, 1),
    "negative is multiplied by no more": ([-1.0, -1.3], [0], 1.2, 0),
    "zero stays": ([0.0, -1e-30], [0], 100.0, 0),
    "both signs": ([1.1, 1.0, -1.0], [0, 2], 1.2, 1),
    "once for an id that came twice": ([1.3, 1.0], [0, 0], 1.2, 0),
    "once for an id that came often": ([-1.0, -1.3], [0, 1, 0, 0][::3], 1.2, 0),
    "first id of the history": ([1.0, 1.1, 0.9], [1, 2, 2], 1.2, 0),
    "last id of the history": ([1.0, 1.1, 0.9], [2, 2, 1], 1.2, 0),
    "long ago": ([1.1, 1.0, 0.1], [0] + [2] * 400, 1.2, 1),
    "1 changes nothing": ([1.1, 1.0], [0], 1.0, 0),
    "below 1 favours": ([1.0, 1.1], [0], 0.5, 0),
    "below 1 favours a negative": ([-1.1, -1.0], [0], 0.5, 0),
    "the tie it makes goes to the lowest": ([1.0, 2.0], [1], 2.0, 0),
    "no history": ([1.0, 1.1], [], 1.2, 1),
    "forbidden stays forbidden": ([-INF, -5.0], [0, 1], 0.5, 1),
}


@pytest.mark.requirement("SA-06")
@pytest.mark.parametrize("law", PENALTIES)
def test_ids_of_the_history_are_penalised(judge: Judge, sample_stage: Sample, law: str) -> None:
    logits, history, penalty, expected = PENALTIES[law]
    for dtype in (np.float32, np.float64):
        how = options(0, repetition_penalty=penalty)
        actual = sample_stage(np.array(logits, dtype), history, how, None)
        judge.equal(f"{law}, {dtype.__name__}", actual, expected)


@pytest.mark.requirement("SA-06")
def test_a_history_is_a_list_or_an_array(judge: Judge, sample_stage: Sample) -> None:
    logits, how = np.array([1.1, 1.0, 0.0], np.float32), options(0, repetition_penalty=1.2)
    for history in ([0, 2], (2, 0), np.array([0, 2]), np.array([0, 2], np.int32)):
        judge.equal(repr(history), sample_stage(logits, history, how, None), 1)
    for nothing in ([], (), np.array([], np.int64)):
        judge.equal(repr(nothing), sample_stage(logits, nothing, how, None), 0)


@pytest.mark.requirement("SA-07")
@pytest.mark.parametrize("history", [[-1], [3], [0, 2**40], [0, -3]], ids=str)
def test_a_history_outside_the_vocabulary_is_refused(
    judge: Judge, sample_stage: Sample, history: list[int]
) -> None:
    logits = np.array([1.1, 1.0, 0.0], np.float32)
    how = options(0, repetition_penalty=1.2)
    judge.refuses(
        "history",
        lambda: sample_stage(logits, history, how, None),
        ValueError,
        accepts=lambda: sample_stage(logits, [0, 2], how, None),
    )
