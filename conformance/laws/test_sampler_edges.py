"""SA: the sampler where numbers end: temperature 0, extremes, edges, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conformance.judging.judge import Judge
from conformance.oracle.sampler import INF, NEXT_TO_ONE, Sample, drawn, options
from soprano.config import SamplingOptions


@pytest.mark.requirement("SA-08")
def test_temperature_0_is_argmax_whatever_the_uniform(judge: Judge, sample_stage: Sample) -> None:
    cases = (([1, 3, 2], 1), ([0, 1e-6, 0], 1), ([1, 1 + 2**-20], 1), ([-3, -2.999999], 1))
    for logits, best in cases:
        for uniform in (None, 0.0, 0.5, NEXT_TO_ONE):
            for top_p, top_k in ((1.0, 0), (0.95, 0), (0.01, 3)):
                how = options(0, top_p, top_k)
                actual = sample_stage(np.array(logits, np.float32), [], how, uniform)
                judge.equal(f"{logits}, uniform {uniform}", actual, best)


@pytest.mark.requirement("SA-08")
def test_of_equal_logits_temperature_0_takes_the_lowest_id(
    judge: Judge, sample_stage: Sample
) -> None:
    cases = (([2, 2, 2], 0), ([0, 2, 2], 1), ([-0.0, 0.0], 0), ([0.0, -0.0], 0), ([-INF, 1, 1], 1))
    for logits, lowest in cases:
        actual = sample_stage(np.array(logits, np.float32), [], options(0), None)
        judge.equal(str(logits), actual, lowest)


@pytest.mark.requirement("SA-09")
@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-30, 1e-300])
@pytest.mark.filterwarnings("error")
def test_towards_temperature_0_the_best_share_everything(
    judge: Judge, sample_stage: Sample, temperature: float
) -> None:
    how = options(temperature)
    judge.equal("one best", drawn(sample_stage, np.array([1.0, 3.0, 2.0]), how), [1])
    halves = [sample_stage(np.array([3.0, 0.0, 3.0]), [], how, u) for u in (0, 0.49, 0.5, 0.99)]
    judge.equal("two best", halves, [0, 0, 2, 2])


@pytest.mark.requirement("SA-10")
@pytest.mark.parametrize(
    ("dtype", "size"), [("f4", 1e30), ("f4", 3e38), ("f8", 1e30), ("f8", 1e300)]
)
@pytest.mark.filterwarnings("error")
def test_extreme_logits_do_not_overflow(
    judge: Judge, sample_stage: Sample, dtype: str, size: float
) -> None:
    cases = (([0, 1, -1], [1]), ([-1, -1, -1], [0, 1, 2]), ([1, 0.5, 1], [0, 2]), ([-0.5, -1], [0]))
    for parts, expected in cases:
        logits = np.array(parts, dtype) * np.array(size, dtype)
        for temperature in (1.0, 0.5, 100.0):
            actual = drawn(sample_stage, logits, options(temperature), 64)
            judge.equal(f"{logits}", actual, expected)
        judge.equal("greedy", sample_stage(logits, [], options(0), None), expected[0])


@pytest.mark.requirement("SA-11")
def test_a_forbidden_id_is_never_drawn(judge: Judge, sample_stage: Sample) -> None:
    logits = np.array([-INF, 1.0, -INF, 1.0, -INF], np.float32)
    for how in (options(), options(top_p=0.99), options(top_k=4), options(1, 1, 0, 1.2)):
        ends = [sample_stage(logits, [0, 2], how, u) for u in (0.0, 0.4999, 0.5, NEXT_TO_ONE)]
        judge.equal(f"{how}", ends, [1, 1, 3, 3])
    judge.equal("greedy", sample_stage(logits, [0], options(0), None), 1)


@pytest.mark.requirement("SA-12")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "logits",
    [[1, np.nan], [np.nan], [-INF, np.nan, 2], [1, INF], [-INF, -INF], [], [[1, 2]], 1.0],
    ids=str,
)
def test_logits_that_say_nothing_are_refused(
    judge: Judge, sample_stage: Sample, logits: Any, temperature: float
) -> None:
    for dtype in (np.float32, np.float64):
        values = np.array(logits, dtype)
        how = options(temperature)
        judge.refuses(
            f"{values!r}",
            lambda v=values, h=how: sample_stage(v, [], h, 0.5),
            ValueError,
            accepts=lambda d=dtype, h=how: sample_stage(np.array([1, -INF, 2], d), [], h, 0.5),
        )


@pytest.mark.requirement("SA-13")
@pytest.mark.parametrize("count", [1, 2, 4, 8, 64, 1024])
def test_an_edge_belongs_to_the_id_above_it(judge: Judge, sample_stage: Sample, count: int) -> None:
    # Equal logits over a power of two: every edge is an exact double.
    logits = np.full(count, -2.5, np.float32)
    places = range(0, count, max(count // 16, 1))
    at = [sample_stage(logits, [], options(), i / count) for i in places]
    judge.equal("at the edge", at, list(places))
    below = [
        sample_stage(logits, [], options(), math.nextafter((i + 1) / count, 0)) for i in places
    ]
    judge.equal("just below the next edge", below, list(places))


@pytest.mark.requirement("SA-13")
def test_the_least_and_the_largest_uniform_draw_the_ends(
    judge: Judge, sample_stage: Sample
) -> None:
    # Thirds and sevenths do not add up to 1 in doubles: the last id is still the last.
    for size in (1, 3, 7, 10, 49, 8192):
        logits = np.zeros(size, np.float32)
        ends = [sample_stage(logits, [], options(), u) for u in (0.0, 5e-324, NEXT_TO_ONE)]
        judge.equal(f"{size} ids", ends, [0, 0, size - 1])
    logits = np.array([-50.0] + [0.0] * 3 + [-800.0], np.float32)
    judge.equal("rare first", sample_stage(logits, [], options(), 0.0), 0)
    judge.equal("impossible last", sample_stage(logits, [], options(), NEXT_TO_ONE), 3)


@pytest.mark.requirement("SA-14")
@pytest.mark.parametrize("uniform", [None, -1e-9, 1.0, 1.5, math.nan, INF])
def test_a_uniform_outside_its_range_is_refused(
    judge: Judge, sample_stage: Sample, uniform: float | None
) -> None:
    logits = np.array([1.0, 2.0], np.float32)
    judge.refuses(
        "uniform",
        lambda: sample_stage(logits, [], options(), uniform),
        ValueError,
        TypeError,
        accepts=lambda: [sample_stage(logits, [], options(), u) for u in (0.0, NEXT_TO_ONE)],
    )


@pytest.mark.requirement("SA-15")
def test_inputs_are_not_modified(judge: Judge, sample_stage: Sample) -> None:
    for dtype in (np.float32, np.float64):
        logits = np.array([1.1, -1.0, 1.0], dtype)
        history, before = [1, 0, 1], logits.copy()
        logits.flags.writeable = False
        for temperature in (0.0, 1.0):
            how = options(temperature, 0.9, 2, 1.2)
            ids = [sample_stage(logits, history, how, 0.3) for _ in range(2)]
            judge.equal("the same again", ids[0], ids[1])
        judge.bits("logits", logits, before)
        judge.equal("history", history, [1, 0, 1])


@pytest.mark.requirement("SA-20")
def test_defaults_are_the_familys(judge: Judge) -> None:
    how = SamplingOptions()
    actual = [str(v) for v in (how.temperature, how.top_p, how.top_k, how.repetition_penalty)]
    judge.equal(
        "temperature, top_p, top_k, repetition_penalty", actual, ["0.0", "0.95", "0", "1.2"]
    )


@pytest.mark.requirement("SA-21")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", INF),
        ("temperature", "1"), ("top_p", 0.0), ("top_p", -0.5), ("top_p", 1.01),
        ("top_p", math.nan), ("top_k", -1), ("top_k", 1.5), ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.2), ("repetition_penalty", math.nan),
    ],
)  # fmt: skip
def test_options_outside_their_range_are_refused(judge: Judge, name: str, value: Any) -> None:
    message = judge.refuses(
        name,
        lambda: SamplingOptions(**{name: value}),
        ValueError,
        TypeError,
        accepts=lambda: SamplingOptions(**{name: 1}),
    )
    judge.equal("the message names the option", name in message, True)
