"""Conventions that live in public ports: who follows one is told which."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import states
from conformance.oracle.conventions import (
    SAMPLERS,
    TRANSFORMS,
    Sampler,
    sampler_questions,
    samplers_followed,
    transforms_followed,
)
from soprano.config import IstftConfig

SIZES = IstftConfig(64, 16, 64)


def probe() -> np.ndarray:
    """A spectrum (F, T, 2) with something in every bin."""
    return np.random.default_rng(9).standard_normal((SIZES.bins, 9, 2)).astype(np.float32)


@pytest.mark.requirement("SA-22")
def test_the_sampler_follows_no_other_convention(judge, sample_stage):
    right = Sampler()
    for name, wrong in SAMPLERS.items():
        told_apart = sum(right(*q) != wrong(*q) for q in sampler_questions())
        judge.equal(f"questions tell {name!r} apart", told_apart > 0, True)
    for name in SAMPLERS:
        judge.not_following(name, samplers_followed(sample_stage))


@pytest.mark.requirement("IS-26")
def test_the_transform_follows_no_other_convention(judge, istft_stage):
    spectrum = probe()
    samples = istft_stage(spectrum[None], SIZES, "bft2")[0]
    for name in TRANSFORMS:
        judge.not_following(
            name, transforms_followed(samples, spectrum, SIZES.n_fft, SIZES.hop_length)
        )


@pytest.mark.requirement("DE-09")
def test_the_spectrum_follows_no_other_convention(judge, backend, vectors):
    hidden = states(vectors.arrays)[:9]
    edges = backend.decode(hidden[None], np.array([len(hidden)]))[0][[0, -1]]
    judge.not_following(
        "DC and Nyquist are left for the inverse transform to zero",
        ["DC and Nyquist are left for the inverse transform to zero"] * bool(edges.any()),
    )
