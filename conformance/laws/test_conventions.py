"""Wrong conventions of public ports: a stage that follows one is told which."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import hidden_pool
from conformance.oracle.sampler_conventions import SAMPLERS, samplers_followed

QUESTIONS = 378  # V of the questions, of which the best 256 ids are a part


@pytest.mark.requirement("SA-22")
def test_sampler_follows_no_known_convention(judge, sample_stage):
    size, sampled = sample_stage.nearest(QUESTIONS), sample_stage.capabilities.uniforms
    followed = samplers_followed(sample_stage, size, sampled=sampled)
    for name in dict.fromkeys([*followed, *SAMPLERS]):
        judge.not_following(name, followed)


@pytest.mark.requirement("DE-09")
def test_spectrum_has_zero_dc_and_nyquist(judge, backend, vectors):
    hidden = hidden_pool(vectors.arrays)[:9]
    dc, nyquist = backend.decode(hidden[None], np.array([len(hidden)]))[0][[0, -1]]
    kept = [name for name, bins in (("DC", dc), ("Nyquist", nyquist)) if bins.any()]
    names = ("DC and Nyquist", "DC", "Nyquist")
    followed = [
        f"{name} left for the ISTFT to zero" for name in names if name == " and ".join(kept)
    ]
    for name in names:
        judge.not_following(f"{name} left for the ISTFT to zero", followed)
