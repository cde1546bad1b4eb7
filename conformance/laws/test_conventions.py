"""Wrong conventions of public ports: a stage that follows one is told which."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import hidden_pool
from conformance.oracle.conventions import (
    ISTFTS,
    SAMPLERS,
    istfts_followed,
    sampler_questions,
    samplers_followed,
)
from conformance.oracle.parametric_stages import Sampler


@pytest.mark.requirement("SA-22")
def test_sampler_follows_no_known_convention(judge, sample_stage):
    right = Sampler()
    for name, wrong in SAMPLERS.items():
        differ = sum(right(*question) != wrong(*question) for question in sampler_questions())
        judge.equal(f"questions show {name!r}", differ > 0, True)
    followed = samplers_followed(sample_stage)
    for name in SAMPLERS:
        judge.not_following(name, followed)


@pytest.mark.requirement("IS-26")
def test_istft_follows_no_known_convention(judge, istft_stage):
    followed = istfts_followed(istft_stage)
    for name in ISTFTS:
        judge.not_following(name, followed)


@pytest.mark.requirement("DE-09")
def test_spectrum_has_zero_dc_and_nyquist(judge, backend, vectors):
    hidden = hidden_pool(vectors.arrays)[:9]
    edges = backend.decode(hidden[None], np.array([len(hidden)]))[0][[0, -1]]
    convention = "DC and Nyquist are left for the ISTFT to zero"
    judge.not_following(convention, [convention] * bool(edges.any()))
