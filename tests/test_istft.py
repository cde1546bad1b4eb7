"""IS: the inverse STFT for every config: its definition in float64, torch, scipy, and its laws."""

import math

import numpy as np
import pytest

from conformance.judging.tolerances import istft as istft_limit
from conformance.oracle import istft_conventions
from conformance.oracle.istft import (
    CASES,
    DTYPES,
    SMALL,
    as_complex,
    bin_counts,
    envelope,
    inverse_stft,
    random_spectrum,
    stft,
)
from soprano.config import IstftConfig

# float32 in the geometries of the family is judged by the laws of ports.
OTHERS = [name for name in CASES if name not in ("published", "nano", "n600-hop200")]


@pytest.mark.requirement("IS-27")
@pytest.mark.parametrize(
    ("name", "dtype"), [*((n, np.float32) for n in OTHERS), *((n, np.float64) for n in CASES)]
)
def test_istft_equals_its_definition(judge, shared, name, dtype):
    config = CASES[name].config
    for count in (2, 3, 4, 9):
        spectrum = random_spectrum(config, count).astype(dtype)
        other = random_spectrum(config, count, seed=1).astype(dtype)
        expected = inverse_stft(spectrum, config)
        judge.close(
            f"{name}, T={count}",
            shared.istft(spectrum[None], config, "bft2")[0],
            expected,
            istft_limit(expected, config, dtype),
            decoys=(inverse_stft(other, config).astype(dtype),),
            dtype=dtype,
        )


@pytest.mark.requirement("IS-27")
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("uncentred")])
def test_uncentred_istft_equals_its_definition_away_from_the_edges(judge, shared, name):
    # At the edges a near-zero envelope magnifies the samples, and with them the limit.
    config = CASES[name].config
    spectrum = random_spectrum(config, 12).astype(np.float32)
    inner = slice(config.n_fft, -config.n_fft)
    expected = inverse_stft(spectrum, config)[inner]
    actual = shared.istft(spectrum[None], config, "bft2")[0, inner]
    judge.close(name, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-02")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.torch])
def test_istft_equals_torch_istft(judge, shared, name):
    torch = pytest.importorskip("torch", reason="torch.istft is compared where torch is installed")
    config = CASES[name].config
    for count in (2, 5):
        spectrum = random_spectrum(config, count).astype(np.float32)
        expected = torch.istft(
            torch.from_numpy(as_complex(spectrum)),
            config.n_fft,
            config.hop_length,
            config.win_length,
            torch_window(torch, config),
            config.center,
            config.normalized,
            config.onesided,
        ).numpy()
        # For an odd n_fft, torch trims one sample more.
        actual = shared.istft(spectrum[None], config, "bft2", length=len(expected))[0]
        judge.close(f"{name}, T={count}", actual, expected, istft_limit(expected, config))


def torch_window(torch, config):
    if config.window == "rectangular":
        return torch.ones(config.win_length, dtype=torch.float64)
    make = getattr(torch, f"{config.window}_window")
    return make(config.win_length, periodic=True, dtype=torch.float64)


@pytest.mark.requirement("IS-03")
@pytest.mark.filterwarnings("ignore:NOLA condition")  # uncentred: scipy warns of the first sample
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.scipy])
def test_istft_equals_scipy_istft(judge, shared, name):
    from scipy import signal

    config = CASES[name].config
    window = signal.get_window(config.window.replace("rectangular", "boxcar"), config.win_length)
    for count in (2, 5):
        spectrum = random_spectrum(config, count).astype(np.float32)
        _, samples = signal.istft(
            as_complex(spectrum) / window.sum(),
            window=window,
            nperseg=config.n_fft,
            noverlap=config.n_fft - config.hop_length,
            input_onesided=config.onesided,
            boundary=config.center,
        )
        expected = np.real(samples)
        actual = shared.istft(spectrum[None], config, "bft2")[0]
        judge.close(f"{name}, T={count}", actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-28")
@pytest.mark.parametrize("name", CASES)
def test_number_of_samples_follows_from_frames_and_hop(judge, shared, name):
    config = CASES[name].config
    extra = config.n_fft % 2 if config.center else config.n_fft
    for batch, count in ((1, 1), (1, 2), (3, 4), (2, 9)):
        samples = shared.istft(np.ones((batch, config.bins, count, 2), np.float32), config, "bft2")
        expected = (batch, (count - 1) * config.hop_length + extra)
        judge.equal(f"{name}, T={count}", samples.shape, expected)


@pytest.mark.requirement("IS-05")
@pytest.mark.parametrize("name", CASES)
def test_spectrum_without_frames_gives_no_samples(judge, shared, name):
    config = CASES[name].config
    for shape, layout in (((2, config.bins, 0, 2), "bft2"), ((2, 2, config.bins, 0), "b2ft")):
        judge.equal(layout, shared.istft(np.zeros(shape, np.float32), config, layout).shape, (2, 0))


@pytest.mark.requirement("IS-27")
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if not c.config.center or "odd" in n])
def test_one_frame_that_gives_samples_equals_its_definition(judge, shared, name):
    config = CASES[name].config
    if config.center and config.n_fft % 2 == 0:  # an odd window in an even frame: no samples
        config = IstftConfig(65, config.hop_length, config.win_length)
    spectrum = random_spectrum(config, 1).astype(np.float32)
    expected = inverse_stft(spectrum, config)
    actual = shared.istft(spectrum[None], config, "bft2")[0]
    judge.close(name, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-07")
@pytest.mark.parametrize("name", OTHERS)
def test_length_truncates_or_zero_pads(judge, shared, name):
    # Beyond the natural end come the samples that the last windows still reach, then zeros.
    config = CASES[name].config
    spectrum = random_spectrum(config, 4).astype(np.float32)
    natural = len(inverse_stft(spectrum, config))
    for length in (1, natural - 1, natural + 1, natural + config.n_fft // 2, natural + 300):
        expected = inverse_stft(spectrum, config, length=length)
        actual = shared.istft(spectrum[None], config, "bft2", length=length)[0]
        judge.close(f"length {length}", actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-07")
def test_length_zero_pads_a_spectrum_without_frames(judge, shared):
    empty = np.zeros((2, SMALL.bins, 0, 2), np.float32)
    for length in (0, 5):
        samples = shared.istft(empty, SMALL, "bft2", length=length)
        judge.equal(f"length {length}", samples.tolist(), [[0.0] * length] * 2)


@pytest.mark.requirement("IS-29")
@pytest.mark.parametrize("name", OTHERS)
def test_batched_istft_equals_unbatched(judge, shared, name):
    config = CASES[name].config
    spectra = [random_spectrum(config, 5, seed).astype(np.float32) for seed in range(3)]
    expected = [inverse_stft(spectrum, config) for spectrum in spectra]
    batched = shared.istft(np.stack(spectra), config, "bft2")
    for row in range(3):
        judge.close(
            f"row {row}",
            batched[row],
            expected[row],
            istft_limit(expected[row], config),
            decoys=(expected[row - 1].astype(np.float32),),
        )


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
    others = istft_conventions.OTHERS
    followed = istft_conventions.istfts_followed(shared.istft, others)
    for name in dict.fromkeys([*followed, *istft_conventions.ISTFTS]):
        judge.not_following(name, followed)
