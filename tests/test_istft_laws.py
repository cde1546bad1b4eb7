"""IS: mathematical laws of the inverse STFT, which hold for every spectrum."""

import math

import numpy as np
import pytest

from conformance.judging.tolerances import istft as istft_limit
from conformance.oracle.istft import (
    CASES,
    DTYPES,
    as_complex,
    bin_counts,
    envelope,
    inverse_stft,
    random_spectrum,
    stft,
)
from conformance.oracle.istft_conventions import ISTFTS, OTHERS, istfts_followed
from soprano.config import IstftConfig


@pytest.mark.requirement("IS-14")
@pytest.mark.parametrize("name", CASES)
def test_istft_is_linear(judge, shared, name):
    config = CASES[name].config
    first, second = (random_spectrum(config, 5, seed) for seed in (3, 4))
    a, b = (shared.istft(spectrum[None], config, "bft2")[0] for spectrum in (first, second))
    expected = 2.5 * a - 0.75 * b
    actual = shared.istft((2.5 * first - 0.75 * second)[None], config, "bft2")[0]
    limit = istft_limit(np.abs(2.5 * a) + np.abs(0.75 * b), config, np.float64)
    judge.close(name, actual, expected, limit, dtype=np.float64)


@pytest.mark.requirement("IS-15")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.config.center])
def test_istft_of_the_stft_of_a_signal_is_the_signal(judge, shared, name):
    config, count = CASES[name].config, 6
    size = (count - 1) * config.hop_length + config.n_fft % 2
    signal = np.random.default_rng(5).standard_normal(size)
    spectrum = stft(signal, config, count)[None]
    for dtype in DTYPES:
        actual = shared.istft(spectrum.astype(dtype), config, "bft2")[0]
        judge.close(name, actual, signal, istft_limit(signal, config, dtype), dtype=dtype)


@pytest.mark.requirement("IS-16")
@pytest.mark.parametrize("name", ["nano", "n600-hop200", "odd", "blackman", "twosided"])
def test_energy_of_the_spectrum_is_that_of_the_samples(judge, shared, name):
    # Parseval for frames: sum |X|^2 / n_fft = sum of squared samples, weighted by the envelope.
    config, count = CASES[name].config, 12
    size = (count - 1) * config.hop_length
    signal = np.random.default_rng(6).standard_normal(size)
    signal[: config.n_fft // 2] = signal[-config.n_fft // 2 :] = 0  # the edges are trimmed
    spectrum = stft(signal, config, count)
    power = np.sum(np.abs(as_complex(spectrum)) ** 2 * bin_counts(config)[:, None])
    samples = shared.istft(spectrum[None], config, "bft2")[0][:size]
    weights = envelope(count, config)[config.n_fft // 2 :][:size]
    actual, expected = np.sum(samples**2 * weights), power / config.n_fft
    limit = istft_limit(expected, config, np.float64)
    judge.close("energy", np.array([actual]), np.array([expected]), limit, dtype=np.float64)


@pytest.mark.requirement("IS-18")
@pytest.mark.parametrize("name", CASES)
def test_leading_silent_frames_delay_the_samples(judge, shared, name):
    # The first n_fft samples are left out: the envelopes differ there.
    config, delay = CASES[name].config, 3
    spectrum = random_spectrum(config, 6 + config.n_fft // config.hop_length)[None]
    silence = np.zeros((1, config.bins, delay, 2))
    expected = shared.istft(spectrum, config, "bft2")[0, config.n_fft :]
    delayed = shared.istft(np.concatenate([silence, spectrum], axis=2), config, "bft2")[0]
    actual = delayed[config.n_fft + delay * config.hop_length :]
    judge.close(name, actual, expected, istft_limit(expected, config, np.float64), dtype=np.float64)


@pytest.mark.requirement("IS-33")
@pytest.mark.parametrize("name", ["nano", "odd", "normalized", "hamming"])
def test_a_single_bin_gives_its_cosine(judge, shared, name):
    # Rectangular frames without overlap: the samples depend on nothing but the bin. DC and Nyquist
    # are inverted as given, because the decoder sets them to zero.
    n_fft, normalized = CASES[name].config.n_fft, CASES[name].config.normalized
    config = IstftConfig(n_fft, n_fft, n_fft, "rectangular", normalized=normalized)
    scale = math.sqrt(n_fft) if normalized else 1
    for k in {0, 1, n_fft // 3, config.bins - 1}:
        spectrum = np.zeros((1, config.bins, 4, 2), np.float32)
        spectrum[0, k, :, 0] = n_fft
        actual = shared.istft(spectrum, config, "bft2")[0]
        phase = 2 * np.pi * k * (np.arange(len(actual)) + n_fft // 2) / n_fft
        expected = bin_counts(config)[k] * scale * np.cos(phase)
        judge.close(f"bin {k}", actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-20")
@pytest.mark.parametrize("name", ["published", "uncentred-hann", "twosided", "n2"])
def test_components_that_no_real_signal_has_are_ignored(judge, shared, name):
    # One-sided: imaginary DC and Nyquist. Two-sided: what is not conjugate.
    config = CASES[name].config
    spectrum = np.random.default_rng(8).standard_normal((config.bins, 5, 2)).astype(np.float32)
    expected = inverse_stft(spectrum, config)
    actual = shared.istft(spectrum[None], config, "bft2")[0]
    judge.close(name, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-21")
@pytest.mark.parametrize("name", ["uncentred-hann", "uncentred-odd-hann", "uncentred-short-hann"])
def test_a_sample_below_the_envelope_bound_is_zero(judge, shared, name):
    config = CASES[name].config
    spectrum = 1e6 * random_spectrum(config, 5).astype(np.float32)[None]
    silent = envelope(5, config) <= 1e-10
    judge.equal("some samples are below the bound", bool(silent.any()), True)
    samples = shared.istft(spectrum, config, "bft2")[0]
    judge.bits("samples", samples[silent], np.zeros(silent.sum(), np.float32))


@pytest.mark.requirement("IS-32")
def test_istft_of_other_geometries_follows_no_known_convention(judge, shared):
    followed = istfts_followed(lambda spectrum, config: shared.istft(spectrum, config), OTHERS)
    for name in dict.fromkeys([*followed, *ISTFTS]):
        judge.not_following(name, followed)
