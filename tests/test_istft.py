"""IS: the inverse STFT for every config, against its definition in float64, torch and scipy."""

import numpy as np
import pytest

from conformance.judging.tolerances import istft as istft_limit
from conformance.oracle.istft import (
    CASES,
    SMALL,
    as_complex,
    inverse_stft,
    random_spectrum,
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
