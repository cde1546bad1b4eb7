"""SA: the ids that given random streams draw."""

import numpy as np
import pytest

from conformance.judging import tolerances
from conformance.laws.sampler_probes import sampling
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
    sampling(0.0, 1.0, 0, 1.2): [11, 1, 4, 7, 10, 0, 3, 6, 9, 12, 2, 5, 8, 11, 1, 4],
}


@pytest.mark.requirement("SA-18")
@pytest.mark.parametrize("options", GOLDEN_IDS, ids=str)
def test_golden_logits_and_uniforms_give_the_golden_ids(judge, sample_stage, options):
    ids = [2]  # a prompt
    for step, uniform in enumerate(random_stream(7, 3, 2, 16)):
        logits = np.array(golden_logits(step), np.float32)
        ids.append(sample_stage(logits, ids, options, uniform))
    judge.equal(f"{options}", ids[1:], GOLDEN_IDS[options])


@pytest.mark.requirement("SA-19")
def test_many_draws_follow_the_defined_distribution(judge, sample_stage, shared):
    from scipy.stats import chi2

    logits, history = np.array([2, 1.5, -1, 0, 1, 0.5, -3, -2], np.float32), [1, 2]
    options, count = sampling(1.3, 0.97, 7, 1.2), 8192
    uniforms = shared.uniforms(3, 1, 0)
    ids = [sample_stage(logits, history, options, next(uniforms)) for _ in range(count)]

    def probabilities(options):
        defined = intervals(logits, history, options)
        return {i: float(stop - start) for i, (start, stop) in defined.items()}

    def statistic(defined):
        means = {i: count * probability for i, probability in defined.items()}
        return sum((ids.count(i) - mean) ** 2 / mean for i, mean in means.items())

    expected, colder = probabilities(options), probabilities(sampling(1.2, 0.97, 7, 1.2))
    judge.equal("ids drawn", sorted(set(ids)), sorted(expected))
    limit = float(chi2.isf(tolerances.SIGNIFICANCE, len(expected) - 1))
    judge.below("chi-square", statistic(expected), limit, count, wrong=statistic(colder))
