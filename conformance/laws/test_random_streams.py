"""SA: the ids that given random streams draw."""

from collections import Counter

import pytest

from conformance.judging import tolerances
from conformance.laws.support.sampler_probes import likely, places, sampling
from conformance.oracle.sampler import intervals, random_stream


def golden_logits(step):
    """The logits of one step: the same thirteen, at other ids in each step."""
    return [((7 * i + 5 * step) % 13) / 4 - 1.5 for i in range(13)]


# From `intervals` and `random_stream`, not from the package.
GOLDEN_IDS = {
    sampling(1.0, 1.0, 0, 1.0): [11, 12, 7, 7, 2, 12, 3, 6, 8, 12, 5, 5, 11, 9, 1, 11],
    sampling(0.7, 0.95, 0, 1.2): [11, 12, 5, 7, 4, 11, 3, 6, 9, 12, 2, 5, 9, 10, 1, 11],
    sampling(2.0, 0.5, 0, 1.0): [11, 12, 9, 7, 2, 11, 3, 6, 7, 12, 7, 5, 8, 9, 1, 11],
    sampling(1.0, 1.0, 3, 1.5): [11, 12, 4, 7, 6, 11, 3, 6, 9, 12, 2, 5, 8, 11, 1, 4],
}


@pytest.mark.requirement("SA-18")
@pytest.mark.parametrize("options", GOLDEN_IDS, ids=str)
def test_golden_logits_and_uniforms_give_the_golden_ids(judge, sample_stage, options):
    known = places(sample_stage.size, 13)
    ids = [known[2]]  # a prompt
    for step, uniform in enumerate(random_stream(7, 3, 2, 16)):
        logits = likely(sample_stage.size, golden_logits(step))
        ids.append(int(sample_stage(logits, list(ids), options, uniform)))
    expected = [known[i] for i in GOLDEN_IDS[options]]
    judge.equal(f"ids under {options}", ids[1:], expected)


@pytest.mark.requirement("SA-19")
def test_many_draws_follow_the_defined_distribution(judge, sample_stage, shared):
    from scipy.stats import chi2

    values, count = [2, 1.5, -1, 0, 1, 0.5, -3, -2], 2048
    ids, logits = places(sample_stage.size, 8), likely(sample_stage.size, values)
    uniforms = shared.uniforms(3, 1, 0)
    drawn = Counter(int(sample_stage(logits, [], sampling(), next(uniforms))) for _ in range(count))

    def statistic(temperature):
        defined = intervals(values, [], sampling(temperature))
        means = {ids[i]: count * float(stop - start) for i, (start, stop) in defined.items()}
        return sum((drawn[i] - mean) ** 2 / mean for i, mean in means.items())

    judge.equal("ids drawn", sorted(drawn), ids)
    limit = float(chi2.isf(tolerances.SIGNIFICANCE, len(ids) - 1))
    judge.below("chi-square", statistic(1.0), limit, count, wrong=statistic(0.9))
