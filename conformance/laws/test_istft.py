"""IS: the inverse transform, judged by its defining sums in float64 and by libraries that apply."""

from __future__ import annotations

from typing import Any

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
    expected_of,
    limit_of,
    spectrum_of,
)
from soprano.config import IstftConfig


@pytest.mark.requirement("IS-01")
@EVERY
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_transform_is_its_definition(
    judge: Judge, istft_stage: Istft, name: str, dtype: Any
) -> None:
    config = CASES[name].config
    for count in (2, 3, 4, 9):
        spectrum = spectrum_of(config, count).astype(dtype)
        other = spectrum_of(config, count, seed=1).astype(dtype)
        expected = expected_of(spectrum, config)
        judge.close(
            f"{name}, T={count}",
            istft_stage(spectrum[None], config, "bft2")[0],
            expected,
            limit_of(expected, config, dtype),
            decoys=(expected_of(other, config).astype(dtype),),
            dtype=dtype,
        )


@pytest.mark.requirement("IS-01")
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("uncentred")])
def test_the_steady_part_of_an_uncentred_transform_is_its_definition(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    # At its edges a near-zero envelope magnifies the samples, and with them the limit.
    config = CASES[name].config
    spectrum = spectrum_of(config, 12).astype(np.float32)
    expected, actual = expected_of(spectrum, config), istft_stage(spectrum[None], config, "bft2")[0]
    steady = slice(config.n_fft, -config.n_fft)
    judge.close(name, actual[steady], expected[steady], limit_of(expected[steady], config))


@pytest.mark.requirement("IS-02")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.torch])
def test_the_transform_is_that_of_torch(judge: Judge, istft_stage: Istft, name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch.istft is compared where torch is installed")
    config = CASES[name].config
    for count in (2, 5):
        spectrum = spectrum_of(config, count).astype(np.float32)
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
        # For an odd n_fft torch trims one sample more.
        actual = istft_stage(spectrum[None], config, "bft2", length=len(expected))[0]
        judge.close(f"{name}, T={count}", actual, expected, limit_of(expected, config))


def torch_window(torch: Any, config: IstftConfig) -> Any:
    if config.window == "rectangular":
        return torch.ones(config.win_length, dtype=torch.float64)
    make = getattr(torch, f"{config.window}_window")
    return make(config.win_length, periodic=True, dtype=torch.float64)


@pytest.mark.requirement("IS-03")
@pytest.mark.filterwarnings("ignore:NOLA condition")  # uncentred: scipy warns of the first sample
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.scipy])
def test_the_transform_is_that_of_scipy(judge: Judge, istft_stage: Istft, name: str) -> None:
    from scipy import signal

    config = CASES[name].config
    window = signal.get_window(config.window.replace("rectangular", "boxcar"), config.win_length)
    for count in (2, 5):
        spectrum = spectrum_of(config, count).astype(np.float32)
        _, found = signal.istft(
            as_complex(spectrum) / window.sum(),
            window=window,
            nperseg=config.n_fft,
            noverlap=config.n_fft - config.hop_length,
            input_onesided=config.onesided,
            boundary=config.center,
        )
        expected = np.real(found)
        actual = istft_stage(spectrum[None], config, "bft2")[0]
        judge.close(f"{name}, T={count}", actual, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-04")
@EVERY
def test_frames_give_a_hop_of_samples_each_but_the_first(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    extra = config.n_fft % 2 if config.center else config.n_fft
    for batch, count in ((1, 1), (1, 2), (3, 4), (2, 9)):
        samples = istft_stage(np.ones((batch, config.bins, count, 2), np.float32), config, "bft2")
        wanted = (batch, (count - 1) * config.hop_length + extra)
        judge.equal(f"{name}, T={count}", samples.shape, wanted)


@pytest.mark.requirement("IS-05")
@EVERY
def test_no_frames_give_no_samples(judge: Judge, istft_stage: Istft, name: str) -> None:
    config = CASES[name].config
    for shape, layout in (((2, config.bins, 0, 2), "bft2"), ((2, 2, config.bins, 0), "b2ft")):
        judge.equal(layout, istft_stage(np.zeros(shape, np.float32), config, layout).shape, (2, 0))


@pytest.mark.requirement("IS-06")
@pytest.mark.parametrize("name", ["published", "nano", "n600-hop200", "short-window", "blackman"])
def test_one_centred_frame_gives_no_samples(judge: Judge, istft_stage: Istft, name: str) -> None:
    config = CASES[name].config
    spectrum = spectrum_of(config, 1).astype(np.float32)[None]
    judge.equal(name, istft_stage(spectrum, config, "bft2").shape, (1, 0))


@pytest.mark.requirement("IS-01")
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if not c.config.center or "odd" in n])
def test_one_frame_that_gives_samples_gives_the_defined_ones(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    if len(expected_of(spectrum_of(config, 1), config)) == 0:  # odd window in an even frame
        config = IstftConfig(65, config.hop_length, config.win_length)
    spectrum = spectrum_of(config, 1).astype(np.float32)
    expected = expected_of(spectrum, config)
    actual = istft_stage(spectrum[None], config, "bft2")[0]
    judge.close(name, actual, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-07")
@EVERY
def test_length_cuts_or_prolongs(judge: Judge, istft_stage: Istft, name: str) -> None:
    # Beyond the natural end stand what the last windows still reach, then zeros.
    config = CASES[name].config
    spectrum = spectrum_of(config, 4).astype(np.float32)
    natural = len(expected_of(spectrum, config))
    for length in (1, natural - 1, natural + 1, natural + config.n_fft // 2, natural + 300):
        expected = expected_of(spectrum, config, length=length)
        actual = istft_stage(spectrum[None], config, "bft2", length=length)[0]
        judge.close(f"length {length}", actual, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-07")
def test_length_holds_where_there_is_no_frame(judge: Judge, istft_stage: Istft) -> None:
    nothing = np.zeros((2, SMALL.bins, 0, 2), np.float32)
    for length in (0, 5):
        samples = istft_stage(nothing, SMALL, "bft2", length=length)
        judge.equal(f"length {length}", samples.tolist(), [[0.0] * length] * 2)


@pytest.mark.requirement("IS-08")
@EVERY
def test_rows_of_a_batch_are_those_they_are_alone(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    rows = [spectrum_of(config, 5, seed).astype(np.float32) for seed in range(3)]
    expected = [expected_of(row, config) for row in rows]
    together = istft_stage(np.stack(rows), config, "bft2")
    for place in range(3):
        judge.close(
            f"row {place}",
            together[place],
            expected[place],
            limit_of(expected[place], config),
            decoys=(expected[place - 1].astype(np.float32),),
        )
