"""IS: laws that every inverse transform obeys, whatever its spectrum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformance.judging.judge import Judge
from conformance.oracle.istft import (
    CASES,
    DTYPES,
    EVERY,
    SMALL,
    Istft,
    as_complex,
    envelope_of,
    expected_of,
    forward,
    limit_of,
    spectrum_of,
)
from soprano.config import IstftConfig


@pytest.mark.requirement("IS-14")
@EVERY
def test_the_transform_is_linear(judge: Judge, istft_stage: Istft, name: str) -> None:
    config = CASES[name].config
    first, second = (spectrum_of(config, 5, seed) for seed in (3, 4))
    a, b = (istft_stage(part[None], config, "bft2")[0] for part in (first, second))
    expected = 2.5 * a - 0.75 * b
    actual = istft_stage((2.5 * first - 0.75 * second)[None], config, "bft2")[0]
    limit = limit_of(np.abs(2.5 * a) + np.abs(0.75 * b), config, np.float64)
    judge.close(name, actual, expected, limit, dtype=np.float64)


@pytest.mark.requirement("IS-15")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.config.center])
def test_the_inverse_of_a_forward_transform_is_the_signal(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config, count = CASES[name].config, 6
    size = (count - 1) * config.hop_length + config.n_fft % 2
    signal = np.random.default_rng(5).standard_normal(size)
    spectrum = forward(signal, config, count)[None]
    for dtype in DTYPES:
        actual = istft_stage(spectrum.astype(dtype), config, "bft2")[0]
        judge.close(name, actual, signal, limit_of(signal, config, dtype), dtype=dtype)


@pytest.mark.requirement("IS-16")
@pytest.mark.parametrize("name", ["nano", "n600-hop200", "odd", "blackman", "twosided"])
def test_energy_is_kept(judge: Judge, istft_stage: Istft, name: str) -> None:
    # Parseval for frames: sum |X|^2 / n_fft = sum of samples squared, each times its envelope.
    config, count = CASES[name].config, 12
    size = (count - 1) * config.hop_length
    signal = np.random.default_rng(6).standard_normal(size)
    signal[: config.n_fft // 2] = signal[-config.n_fft // 2 :] = 0  # nothing at the trimmed edges
    bins = np.abs(as_complex(forward(signal, config, count))) ** 2
    twins = np.array([1 if 2 * k % config.n_fft == 0 else 2 for k in range(config.bins)])
    spectral = (bins * (twins if config.onesided else np.ones(config.bins))[:, None]).sum()
    spectrum = forward(signal, config, count)[None]
    samples = istft_stage(spectrum, config, "bft2")[0][:size]
    weights = envelope_of(count, config)[config.n_fft // 2 :][:size]
    actual, expected = np.sum(samples**2 * weights), spectral / config.n_fft
    limit = limit_of(expected, config, np.float64)
    judge.close("energy", np.array([actual]), np.array([expected]), limit, dtype=np.float64)


@pytest.mark.requirement("IS-17")
def test_the_input_is_not_modified(judge: Judge, istft_stage: Istft) -> None:
    spectrum = spectrum_of(SMALL, 5).astype(np.float32)[None]
    for layout, given_ in (("bft2", spectrum), ("b2ft", spectrum.transpose(0, 3, 1, 2).copy())):
        before = given_.copy()
        samples = istft_stage(given_, SMALL, layout)
        samples += 1  # nor may the samples be a view of it
        judge.bits(layout, given_, before)
        given_.flags.writeable = False
        judge.bits(f"{layout}, read-only", istft_stage(given_, SMALL, layout) + 1, samples)


@pytest.mark.requirement("IS-18")
@EVERY
def test_silent_frames_in_front_delay_the_samples(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    # In front of the first whole window the two envelopes differ.
    config, delay = CASES[name].config, 3
    spectrum = spectrum_of(config, 6 + config.n_fft // config.hop_length)[None]
    silence = np.zeros((1, config.bins, delay, 2))
    plain = istft_stage(spectrum, config, "bft2")[0, config.n_fft :]
    late = istft_stage(np.concatenate([silence, spectrum], axis=2), config, "bft2")[0]
    actual = late[config.n_fft + delay * config.hop_length :]
    judge.close(name, actual, plain, limit_of(plain, config, np.float64), dtype=np.float64)


@pytest.mark.requirement("IS-19")
@pytest.mark.parametrize("name", ["nano", "odd", "normalized", "hamming"])
def test_a_constant_and_a_cosine_come_from_their_bins(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    # Rectangular frames that overlap say the same of every sample, so nothing but the bin decides:
    # DC and Nyquist are inverted as they are given, for zeroing is the head's.
    sizes = CASES[name].config
    config = IstftConfig(
        sizes.n_fft, sizes.n_fft, sizes.n_fft, "rectangular", normalized=sizes.normalized
    )
    for k in {0, 1, config.n_fft // 3, config.bins - 1}:
        spectrum = np.zeros((1, config.bins, 4, 2), np.float32)
        spectrum[0, k, :, 0] = config.n_fft
        actual = istft_stage(spectrum, config, "bft2")[0]
        turn = 2 * np.pi * k * (np.arange(len(actual)) + config.n_fft // 2) / config.n_fft
        twins = 1 if 2 * k % config.n_fft == 0 else 2
        scale = math.sqrt(config.n_fft) if config.normalized else 1
        expected = twins * scale * np.cos(turn)
        judge.close(f"bin {k}", actual, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-20")
@pytest.mark.parametrize("name", ["published", "uncentred-hann", "twosided", "n2"])
def test_a_part_that_no_real_signal_has_is_dropped(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    # Imaginary DC and Nyquist one-sided; all that is not conjugate two-sided.
    config = CASES[name].config
    spectrum = np.random.default_rng(8).standard_normal((config.bins, 5, 2)).astype(np.float32)
    expected = expected_of(spectrum, config)
    actual = istft_stage(spectrum[None], config, "bft2")[0]
    judge.close(name, actual, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-21")
@pytest.mark.parametrize("name", ["uncentred-hann", "uncentred-odd-hann", "uncentred-short-hann"])
def test_a_sample_that_no_window_reaches_is_zero(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    spectrum = 1e6 * spectrum_of(config, 5).astype(np.float32)[None]
    silent = envelope_of(5, config) <= 1e-10
    judge.equal("samples in question", bool(silent.any()), True)
    samples = istft_stage(spectrum, config, "bft2")[0]
    judge.bits("samples", samples[silent], np.zeros(silent.sum(), np.float32))
