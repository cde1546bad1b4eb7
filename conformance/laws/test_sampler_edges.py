"""SA: the sampler at temperature 0, at extreme logits, at interval edges and for invalid input."""

import math

import numpy as np
import pytest

from conformance.laws.sampler_probes import INF, LARGEST_UNIFORM, drawn_ids, sampling


@pytest.mark.requirement("SA-08")
def test_temperature_0_is_argmax_for_any_uniform(judge, sample_stage):
    cases = (([1, 3, 2], 1), ([0, 1e-6, 0], 1), ([1, 1 + 2**-20], 1), ([-3, -2.999999], 1))
    for logits, best in cases:
        for uniform in (None, 0.0, 0.5, LARGEST_UNIFORM):
            for top_p, top_k in ((1.0, 0), (0.95, 0), (0.01, 3)):
                options = sampling(0, top_p, top_k)
                actual = sample_stage(np.array(logits, np.float32), [], options, uniform)
                judge.equal(f"{logits}, uniform {uniform}", actual, best)


@pytest.mark.requirement("SA-08")
def test_temperature_0_takes_the_lowest_of_equal_logits(judge, sample_stage):
    cases = (([2, 2, 2], 0), ([0, 2, 2], 1), ([-0.0, 0.0], 0), ([0.0, -0.0], 0), ([-INF, 1, 1], 1))
    for logits, lowest in cases:
        actual = sample_stage(np.array(logits, np.float32), [], sampling(0), None)
        judge.equal(str(logits), actual, lowest)


@pytest.mark.requirement("SA-09")
@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-30, 1e-300])
@pytest.mark.filterwarnings("error")
def test_largest_logits_share_the_probability_as_temperature_approaches_0(
    judge, sample_stage, temperature
):
    one, two, options = np.array([1.0, 3.0, 2.0]), np.array([3.0, 0.0, 3.0]), sampling(temperature)
    judge.equal("one largest logit", drawn_ids(sample_stage, one, options), [1])
    halves = [sample_stage(two, [], options, uniform) for uniform in (0, 0.49, 0.5, 0.99)]
    judge.equal("two largest logits", halves, [0, 0, 2, 2])


@pytest.mark.requirement("SA-10")
@pytest.mark.parametrize(
    ("dtype", "size"), [("f4", 1e30), ("f4", 3e38), ("f8", 1e30), ("f8", 1e300)]
)
@pytest.mark.filterwarnings("error")
def test_extreme_logits_do_not_overflow(judge, sample_stage, dtype, size):
    cases = (([0, 1, -1], [1]), ([-1, -1, -1], [0, 1, 2]), ([1, 0.5, 1], [0, 2]), ([-0.5, -1], [0]))
    for parts, expected in cases:
        logits = np.array(parts, dtype) * np.array(size, dtype)
        for temperature in (1.0, 0.5, 100.0):
            actual = drawn_ids(sample_stage, logits, sampling(temperature), 64)
            judge.equal(f"{logits}", actual, expected)
        judge.equal("greedy", sample_stage(logits, [], sampling(0), None), expected[0])


@pytest.mark.requirement("SA-11")
def test_id_with_logit_minus_infinity_is_never_drawn(judge, sample_stage):
    logits = np.array([-INF, 1.0, -INF, 1.0, -INF], np.float32)
    uniforms = (0.0, 0.4999, 0.5, LARGEST_UNIFORM)
    for options in (sampling(), sampling(top_p=0.99), sampling(top_k=4), sampling(1, 1, 0, 1.2)):
        ids = [sample_stage(logits, [0, 2], options, uniform) for uniform in uniforms]
        judge.equal(f"{options}", ids, [1, 1, 3, 3])
    judge.equal("greedy", sample_stage(logits, [0], sampling(0), None), 1)


@pytest.mark.requirement("SA-12")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "logits",
    [[1, np.nan], [np.nan], [-INF, np.nan, 2], [1, INF], [-INF, -INF], [], [[1, 2]], 1.0],
    ids=str,
)
def test_invalid_logits_are_rejected(judge, sample_stage, logits, temperature):
    for dtype in (np.float32, np.float64):
        values = np.array(logits, dtype)
        valid = np.array([1, -INF, 2], dtype)
        judge.refuses(
            f"{values!r}",
            lambda v=values: sample_stage(v, [], sampling(temperature), 0.5),
            ValueError,
            accepts=lambda v=valid: sample_stage(v, [], sampling(temperature), 0.5),
        )


@pytest.mark.requirement("SA-13")
@pytest.mark.parametrize("count", [1, 2, 4, 8, 64, 1024])
def test_uniform_at_an_edge_draws_the_id_above_it(judge, sample_stage, count):
    # Equal logits over a power of two: every edge is an exact double.
    logits = np.full(count, -2.5, np.float32)
    ids = list(range(0, count, max(count // 16, 1)))
    at = [sample_stage(logits, [], sampling(), i / count) for i in ids]
    judge.equal("at the edge", at, ids)
    below = [sample_stage(logits, [], sampling(), math.nextafter((i + 1) / count, 0)) for i in ids]
    judge.equal("just below the next edge", below, ids)


@pytest.mark.requirement("SA-13")
def test_smallest_and_largest_uniform_draw_the_first_and_the_last_id(judge, sample_stage):
    # Thirds and sevenths do not add up to 1 in doubles: the last id is drawn nevertheless.
    for size in (1, 3, 7, 10, 49, 8192):
        logits = np.zeros(size, np.float32)
        ends = [sample_stage(logits, [], sampling(), u) for u in (0.0, 5e-324, LARGEST_UNIFORM)]
        judge.equal(f"{size} ids", ends, [0, 0, size - 1])
    logits = np.array([-50.0] + [0.0] * 3 + [-800.0], np.float32)
    judge.equal("improbable first", sample_stage(logits, [], sampling(), 0.0), 0)
    judge.equal("impossible last", sample_stage(logits, [], sampling(), LARGEST_UNIFORM), 3)


@pytest.mark.requirement("SA-14")
@pytest.mark.parametrize("uniform", [None, -1e-9, 1.0, 1.5, math.nan, INF])
def test_uniform_outside_its_range_is_rejected(judge, sample_stage, uniform):
    logits = np.array([1.0, 2.0], np.float32)
    judge.refuses(
        "uniform",
        lambda: sample_stage(logits, [], sampling(), uniform),
        ValueError,
        TypeError,
        accepts=lambda: [sample_stage(logits, [], sampling(), u) for u in (0.0, LARGEST_UNIFORM)],
    )


@pytest.mark.requirement("SA-15")
def test_sampling_modifies_neither_logits_nor_history(judge, sample_stage):
    for dtype in (np.float32, np.float64):
        logits = np.array([1.1, -1.0, 1.0], dtype)
        history, before = [1, 0, 1], logits.copy()
        logits.flags.writeable = False
        for temperature in (0.0, 1.0):
            options = sampling(temperature, 0.9, 2, 1.2)
            ids = [sample_stage(logits, history, options, 0.3) for _ in range(2)]
            judge.equal("second call", ids[0], ids[1])
        judge.bits("logits", logits, before)
        judge.equal("history", history, [1, 0, 1])
