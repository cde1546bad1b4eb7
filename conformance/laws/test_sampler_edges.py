"""SA: inputs that a generation loop gives almost never: edges, extreme logits, invalid input.

The requirements are `should`: float32 decides such cases in another way than the definition.
"""

import math

import numpy as np
import pytest

from conformance.laws.support.sampler_probes import (
    INF,
    LARGEST_UNIFORM,
    frequencies,
    likely,
    places,
    sampling,
)


@pytest.fixture
def temperatures(sample_stage):
    """A port that is judged greedily is asked at temperature 0 only."""
    return (0.0, 1.0) if sample_stage.capabilities.uniforms else (0.0,)


@pytest.fixture
def resolution(sample_stage):
    """Differences of uniforms and sums that decide: a port may compute in float32."""
    return 2.0**-53 if sample_stage.name == "shared" else 2.0**-20


@pytest.mark.requirement("SA-07")
def test_history_outside_the_vocabulary_is_rejected(judge, sample_stage):
    size, options = sample_stage.size, sampling(0, repetition_penalty=1.2)
    logits = likely(size, [1.1, 1.0, 0.0])
    for history in ([-1], [size], [0, 2**40], [0, -size]):
        judge.refuses(
            f"history {history}",
            lambda history=history: sample_stage(logits.copy(), history, options, None),
            ValueError,
            accepts=lambda: sample_stage(logits.copy(), [0, size - 1], options, None),
            names=(history[-1], "history", "id", "index", "range", "bound", "token", "overflow"),
        )


@pytest.mark.requirement("SA-10")
@pytest.mark.parametrize("scale", [1e3, 1e30, 3e38])
def test_extreme_logits_do_not_overflow(judge, sample_stage, temperatures, scale):
    cases = (([0, 1, -1], [1]), ([-1, -1, -1], [0, 1, 2]), ([1, 0.5, 1], [0, 2]), ([-0.5, -1], [0]))
    for parts, expected in cases:
        values = [part * scale for part in parts]
        ids = places(sample_stage.size, len(values))
        logits = likely(sample_stage.size, values, rest=-1.1 * scale)
        greedy = sample_stage(logits.copy(), [], sampling(0), None)
        judge.equal(f"{values}, temperature 0", int(greedy), ids[expected[0]])
        for temperature in (1.0, 0.5) if len(temperatures) > 1 else ():
            uniforms = [(i + 0.5) / 16 for i in range(16)]
            options = sampling(temperature)
            drawn = {int(sample_stage(logits.copy(), [], options, u)) for u in uniforms}
            judge.equal(f"{values}", sorted(drawn), [ids[i] for i in expected])


@pytest.mark.requirement("SA-11")
def test_id_with_logit_minus_infinity_is_never_drawn(judge, sample_stage):
    size = sample_stage.size
    ids, logits = places(size, 5), likely(size, [-INF, 1.0, -INF, 1.0, -INF], rest=-INF)
    uniforms = (0.0, 0.4999, 0.5001, LARGEST_UNIFORM)
    for options in (sampling(), sampling(top_p=0.99), sampling(top_k=4), sampling(1, 1, 0, 1.2)):
        history = [ids[0], ids[2]]
        drawn = [int(sample_stage(logits.copy(), history, options, u)) for u in uniforms]
        judge.equal(f"{options}", drawn, [ids[1], ids[1], ids[3], ids[3]])
    greedy = sample_stage(logits.copy(), [ids[0]], sampling(0), None)
    judge.equal("temperature 0", int(greedy), ids[1])


@pytest.mark.requirement("SA-12")
@pytest.mark.parametrize("wrong", ["a NaN", "only NaN", "an inf", "only -inf", "2 axes", "0 ids"])
def test_invalid_logits_are_rejected(judge, sample_stage, temperatures, wrong):
    logits = likely(sample_stage.size, [1, 2, 0])
    other = logits.copy()
    if wrong in ("a NaN", "an inf"):
        other[sample_stage.size // 3] = np.nan if wrong == "a NaN" else INF
    elif wrong in ("only NaN", "only -inf"):
        other[:] = np.nan if wrong == "only NaN" else -INF
    else:
        other = np.zeros((1, 2), np.float32) if wrong == "2 axes" else np.zeros(0, np.float32)
    for temperature in temperatures:
        judge.refuses(
            f"logits with {wrong}",
            lambda t=temperature: sample_stage(other.copy(), [], sampling(t), 0.5),
            ValueError,
            accepts=lambda t=temperature: sample_stage(logits.copy(), [], sampling(t), 0.5),
            names=("logit", "nan", "inf", "finite", "shape", "size", "dim", "empty", "probab"),
        )


@pytest.mark.requirement("SA-13")
@pytest.mark.parametrize("count", [1, 2, 4, 8, 64])
def test_uniform_at_an_edge_draws_the_id_above_it(judge, sample_stage, resolution, count):
    # Equal logits over a power of two: every edge is an exact double.
    ids, logits = places(sample_stage.size, count), likely(sample_stage.size, [-2.5] * count)
    drawn = [int(sample_stage(logits.copy(), [], sampling(), i / count)) for i in range(count)]
    judge.equal("ids at the edge", drawn, ids)
    below = [(i + 1) / count - resolution for i in range(count)]
    drawn = [int(sample_stage(logits.copy(), [], sampling(), u)) for u in below]
    judge.equal("ids just below the next edge", drawn, ids)


@pytest.mark.requirement("SA-13")
def test_smallest_and_largest_uniform_draw_the_first_and_the_last_id(
    judge, sample_stage, resolution
):
    # Thirds and sevenths do not add up to 1 in doubles: the last id is drawn nevertheless.
    for count in (1, 3, 7, 10, 49):
        ids = places(sample_stage.size, count)
        logits = likely(sample_stage.size, [0.0] * count, rest=-1e4)
        ends = (0.0, 5e-324, 1 - resolution)
        drawn = [int(sample_stage(logits.copy(), [], sampling(), u)) for u in ends]
        judge.equal(f"{count} ids", drawn, [ids[0], ids[0], ids[-1]])


@pytest.mark.requirement("SA-14")
@pytest.mark.parametrize("uniform", [None, -1e-9, 1.0, 1.5, math.nan, INF])
def test_uniform_outside_its_range_is_rejected(judge, sample_stage, uniform):
    logits = likely(sample_stage.size, [1.0, 2.0])
    judge.refuses(
        f"uniform {uniform}",
        lambda: sample_stage(logits.copy(), [], sampling(), uniform),
        ValueError,
        TypeError,
        accepts=lambda: [sample_stage(logits.copy(), [], sampling(), u) for u in (0.0, 0.999)],
        names=(str(uniform), "uniform", "random", "none", "range", "bound", "between"),
    )


@pytest.mark.requirement("SA-25")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_top_p_that_equals_a_sum_of_probabilities_keeps_no_more_ids(
    judge, sample_stage, resolution, count
):
    # Eight ids of probability 1/8: eighths are exact, and slightly more needs one id more.
    equal, mass, slightly = [3.0] * 8, count / 8, max(resolution, 2.0**-40)
    for top_p in (mass, math.nextafter(mass, 0)):
        drawn = frequencies(sample_stage, equal, sampling(top_p=top_p), count=64)
        judge.equal(f"top_p={top_p}", sorted(drawn), list(range(count)))
    drawn = frequencies(sample_stage, equal, sampling(top_p=mass + slightly), count=64)
    judge.equal("slightly more", sorted(drawn), list(range(count + 1)))


@pytest.mark.requirement("SA-25")
@pytest.mark.parametrize("count", [2, 17, 64])
def test_of_equal_logits_top_p_keeps_the_lowest_ids(judge, sample_stage, count):
    for kept in sorted({1, count // 2, count - 1}):
        drawn = frequencies(sample_stage, [1.0] * count, sampling(top_p=(kept - 0.5) / count))
        judge.equal(f"{kept} of {count} equal logits", sorted(drawn), list(range(kept)))
