"""IS: the inverse transform, judged by its defining sums in float64 and by libraries that apply.

The sums below share nothing with the package: no fast transform, windows and trims of their own.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.ledger import Judge
from conformance.profiles import examples
from conformance.tolerances import transform
from soprano.config import IstftConfig
from soprano.istft import StreamingIstft

Float64 = npt.NDArray[np.float64]
Istft = Any  # (spectrum, config, layout, *, length) -> samples

EXPLORED = examples(40)
DTYPES = (np.float32, np.float64)


class Case(NamedTuple):
    """A transform and the libraries that compute it too.

    torch refuses a window sum of zero (uncentred Hann and Blackman), T = 0 and T = 1.
    scipy puts a window shorter than n_fft elsewhere, and knows no scaling by 1/sqrt(n_fft).
    Neither is asked for frames of a single sample.
    """

    config: IstftConfig
    torch: bool = True
    scipy: bool = True


CASES = {
    "published": Case(IstftConfig(2048, 512, 2048)),
    "nano": Case(IstftConfig(1024, 256, 1024)),
    "n600-hop150": Case(IstftConfig(600, 150, 600)),
    "n600-hop200": Case(IstftConfig(600, 200, 600)),
    "hop-over-half": Case(IstftConfig(64, 48, 64)),
    "hop-1": Case(IstftConfig(16, 1, 16)),
    "hop-not-a-divisor": Case(IstftConfig(64, 20, 64)),
    "odd": Case(IstftConfig(63, 16, 63)),
    "odd-hop-over-half": Case(IstftConfig(61, 37, 61)),
    "short-window": Case(IstftConfig(64, 12, 48), scipy=False),
    "short-odd-window": Case(IstftConfig(64, 8, 33), scipy=False),
    "odd-short-window": Case(IstftConfig(63, 10, 40), scipy=False),
    "hamming": Case(IstftConfig(64, 16, 64, "hamming")),
    "hamming-hop-is-window": Case(IstftConfig(64, 64, 64, "hamming")),
    "blackman": Case(IstftConfig(64, 16, 64, "blackman")),
    "rectangular": Case(IstftConfig(64, 32, 64, "rectangular")),
    "rectangular-no-overlap": Case(IstftConfig(64, 64, 64, "rectangular")),
    "n1": Case(IstftConfig(1, 1, 1, "rectangular"), torch=False, scipy=False),
    "n2": Case(IstftConfig(2, 1, 2)),
    "n3": Case(IstftConfig(3, 1, 3)),
    "normalized": Case(IstftConfig(64, 16, 64, normalized=True), scipy=False),
    "normalized-odd": Case(IstftConfig(63, 16, 63, normalized=True), scipy=False),
    "twosided": Case(IstftConfig(64, 16, 64, onesided=False)),
    "twosided-odd": Case(IstftConfig(63, 16, 63, onesided=False)),
    "twosided-normalized": Case(
        IstftConfig(64, 16, 64, normalized=True, onesided=False), scipy=False
    ),
    "uncentred-hann": Case(IstftConfig(64, 16, 64, center=False), torch=False),
    "uncentred-odd-hann": Case(IstftConfig(63, 16, 63, center=False), torch=False),
    "uncentred-blackman": Case(IstftConfig(64, 16, 64, "blackman", center=False), torch=False),
    "uncentred-short-hann": Case(IstftConfig(64, 12, 40, center=False), torch=False, scipy=False),
    "uncentred-hamming": Case(IstftConfig(64, 16, 64, "hamming", center=False)),
    "uncentred-rectangular": Case(IstftConfig(64, 48, 64, "rectangular", center=False)),
    "uncentred-odd-twosided": Case(
        IstftConfig(63, 20, 63, "hamming", center=False, onesided=False)
    ),
}
EVERY = pytest.mark.parametrize("name", CASES)
SMALL = IstftConfig(64, 16, 64)


@cache
def window_of(config: IstftConfig) -> Float64:
    """One period of the window's cosine series, in the middle of n_fft points."""
    series = {
        "hann": (0.5, -0.5),
        "hamming": (0.54, -0.46),
        "blackman": (0.42, -0.5, 0.08),
        "rectangular": (1.0,),
    }[config.window]
    left, points = (config.n_fft - config.win_length) // 2, np.zeros(config.n_fft)
    for n in range(config.win_length):
        turn = 2 * math.pi * n / config.win_length
        points[left + n] = math.fsum(a * math.cos(k * turn) for k, a in enumerate(series))
    return points


@cache
def waves(n_fft: int) -> npt.NDArray[np.complex128]:
    """exp(2 pi i k n / n_fft) for every bin k of the upper half or more, and sample n."""
    turns = np.outer(np.arange(n_fft), np.arange(n_fft)) % n_fft
    return np.exp(2j * np.pi * np.arange(n_fft) / n_fft)[turns]


def frames_of(bins: npt.NDArray[np.complex128], config: IstftConfig) -> Float64:
    """(F, T) -> (T, n_fft): the real part of the inverse sums, one frame a row."""
    if config.onesided:
        # Bin n_fft - k is the conjugate of bin k; DC and Nyquist have no such twin.
        twins = np.array([1 if 2 * k % config.n_fft == 0 else 2 for k in range(config.bins)])
        bins = bins * twins[:, None]
    table = waves(config.n_fft)[: len(bins)]
    sums = bins.real.T @ table.real - bins.imag.T @ table.imag
    return sums / (math.sqrt(config.n_fft) if config.normalized else config.n_fft)


def envelope_of(count: int, config: IstftConfig) -> Float64:
    """The squared windows of `count` frames, summed, before trimming."""
    total = np.zeros(max(count - 1, 0) * config.hop_length + config.n_fft)
    for t in range(count):
        total[t * config.hop_length :][: config.n_fft] += window_of(config) ** 2
    return total


def defined(frames: Float64, config: IstftConfig, length: int | None = None) -> Float64:
    """Samples (N,) by definition from frames (T, n_fft)."""
    count, hop, n_fft = len(frames), config.hop_length, config.n_fft
    start = n_fft // 2 if config.center else 0
    total, weights = np.zeros((count + n_fft) * hop + n_fft), envelope_of(count, config)
    for t, frame in enumerate(frames):
        total[t * hop :][:n_fft] += frame * window_of(config)
    samples = np.zeros(len(total) + (length or 0))
    # 1e-10 is the bound of the overlap condition: below it no sample can be recovered.
    reached = np.flatnonzero(weights > 1e-10)
    samples[reached] = total[reached] / weights[reached]
    natural = (count - 1) * hop + n_fft - 2 * start if count else 0
    return samples[start : start + (natural if length is None else length)]


def spectrum_of(config: IstftConfig, count: int, seed: int = 0) -> Float64:
    """A random spectrum (F, T, 2) of a real signal: DC and Nyquist real, two sides conjugate."""
    draws = np.random.default_rng([seed, config.n_fft, count])
    upper = draws.standard_normal((config.n_fft // 2 + 1, count, 2))
    upper[0, :, 1] = 0
    if config.n_fft % 2 == 0:
        upper[-1, :, 1] = 0
    if config.onesided:
        return upper
    lower = upper[1 : (config.n_fft + 1) // 2][::-1] * [1, -1]
    return np.concatenate([upper, lower])


def as_complex(spectrum: npt.NDArray[Any]) -> npt.NDArray[np.complex128]:
    return spectrum[..., 0].astype(np.float64) + 1j * spectrum[..., 1].astype(np.float64)


def expected_of(spectrum: npt.NDArray[Any], config: IstftConfig, **options: Any) -> Float64:
    """Samples (N,) of a spectrum (F, T, 2) by definition."""
    return defined(frames_of(as_complex(spectrum), config), config, **options)


def limit_of(expected: Float64, config: IstftConfig, dtype: Any = np.float32) -> Any:
    return transform(expected, config.n_fft, config.win_length / config.hop_length, dtype)


def forward(signal: Float64, config: IstftConfig, count: int) -> Float64:
    """The centred short-time transform (F, T, 2) of a signal (N,), by definition."""
    half, hop = config.n_fft // 2, config.hop_length
    padded = np.pad(signal, (half, count * hop + config.n_fft))
    cut = np.stack([padded[t * hop :][: config.n_fft] for t in range(count)], axis=1)
    bins = waves(config.n_fft)[: config.bins].conj() @ (cut * window_of(config)[:, None])
    if config.normalized:
        bins = bins / math.sqrt(config.n_fft)
    return np.stack([bins.real, bins.imag], axis=-1)


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


@pytest.mark.requirement("IS-09")
@EVERY
def test_layouts_agree_bit_for_bit(judge: Judge, istft_stage: Istft, name: str) -> None:
    config = CASES[name].config
    for dtype in DTYPES:
        rows = np.stack([spectrum_of(config, 5, seed) for seed in range(2)]).astype(dtype)
        last = istft_stage(rows, config, "bft2")
        second = istft_stage(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)), config, "b2ft")
        judge.same(f"{name}, {dtype.__name__}", second, last)


@pytest.mark.requirement("IS-09")
def test_memory_order_does_not_matter(judge: Judge, istft_stage: Istft) -> None:
    rows = spectrum_of(SMALL, 6).astype(np.float32)[None]
    expected = istft_stage(rows, SMALL, "bft2")
    wide = np.zeros((1, SMALL.bins, 12, 2), np.float32)
    wide[:, :, ::2] = rows
    for name, view in (("fortran", np.asfortranarray(rows)), ("strided", wide[:, :, ::2])):
        judge.same(name, istft_stage(view, SMALL, "bft2"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize("name", ["n2", "n3", "hop-1", "odd", "twosided", "short-window"])
def test_auto_recognises_a_layout_that_is_certain(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    for count in (3, max(config.bins, 3), config.bins + 2):
        rows = spectrum_of(config, count).astype(np.float32)[None]
        expected = istft_stage(rows, config, "bft2")
        judge.same(f"bft2, T={count}", istft_stage(rows, config, "auto"), expected)
        other = np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
        judge.same(f"b2ft, T={count}", istft_stage(other, config, "auto"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(2, 1, 2),
        IstftConfig(3, 1, 3),
        IstftConfig(2, 1, 2, onesided=False),
    ],
    ids=["n2", "n3", "n2-twosided"],
)
def test_auto_refuses_a_shape_that_fits_both_layouts(
    judge: Judge, istft_stage: Istft, config: IstftConfig
) -> None:
    alike = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    certain = np.zeros((1, config.bins, 5, 2), np.float32)
    judge.refuses(
        "both fit",
        lambda: istft_stage(alike, config, "auto"),
        ValueError,
        accepts=lambda: istft_stage(certain, config, "auto"),
    )
    named = [istft_stage(alike, config, layout) for layout in ("bft2", "b2ft")]
    expected = expected_of(alike[0], config), expected_of(alike[0].transpose(1, 2, 0), config)
    for layout, actual, wanted in zip(("bft2", "b2ft"), named, expected, strict=True):
        judge.close(layout, actual[0], wanted, limit_of(wanted, config))


@pytest.mark.requirement("IS-11")
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 2, 33, 5), "bft2"),
        ((1, 33, 5, 2), "b2ft"),
        ((1, 5, 33, 2), "bft2"),
        ((1, 5, 33, 2), "auto"),
        ((1, 64, 5, 2), "auto"),
        ((1, 33, 2, 5), "auto"),
        ((1, 32, 5, 2), "bft2"),
        ((1, 33, 5, 3), "bft2"),
        ((1, 33, 5, 1), "bft2"),
        ((33, 5, 2), "bft2"),
        ((33, 5, 2), "auto"),
        ((1, 1, 33, 5, 2), "bft2"),
        ((), "bft2"),
        ((1, 33, 5, 2), "tf2"),
        ((1, 33, 5, 2), ""),
    ],
)
def test_a_shape_of_no_layout_is_refused(
    judge: Judge, istft_stage: Istft, shape: tuple[int, ...], layout: str
) -> None:
    spectrum = np.zeros(shape, np.float32)
    right = np.zeros((1, SMALL.bins, 5, 2), np.float32)
    judge.refuses(
        f"{shape} as {layout}",
        lambda: istft_stage(spectrum, SMALL, layout),
        ValueError,
        accepts=lambda: [istft_stage(right, SMALL, name) for name in ("bft2", "auto")],
    )


@pytest.mark.requirement("IS-12")
@pytest.mark.parametrize("dtype", ["float16", "int16", "int64", "complex64", "complex128", "bool"])
def test_another_type_is_refused(judge: Judge, istft_stage: Istft, dtype: str) -> None:
    spectrum = np.zeros((1, SMALL.bins, 4, 2), dtype)
    judge.refuses(
        dtype,
        lambda: istft_stage(spectrum, SMALL, "bft2"),
        ValueError,
        TypeError,
        accepts=lambda: [istft_stage(spectrum.real.astype(d), SMALL, "bft2") for d in DTYPES],
    )


@pytest.mark.requirement("IS-13")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(64, 64, 64),
        IstftConfig(63, 63, 63),
        IstftConfig(64, 40, 40),
        IstftConfig(64, 64, 64, "blackman"),
        IstftConfig(64, 64, 64, center=False),
        IstftConfig(1, 1, 1),
        IstftConfig(2, 2, 2),
    ],
    ids=str,
)
def test_windows_that_leave_gaps_are_refused(
    judge: Judge, istft_stage: Istft, config: IstftConfig
) -> None:
    spectrum = np.zeros((1, config.bins, 4, 2), np.float32)
    without_gaps = IstftConfig(config.n_fft, 1, config.n_fft, "rectangular")
    judge.refuses(
        "nonzero overlap-add",
        lambda: istft_stage(spectrum, config, "bft2"),
        ValueError,
        accepts=lambda: istft_stage(spectrum, without_gaps, "bft2"),
    )
    judge.refuses(
        "hop over window",
        lambda: IstftConfig(64, 33, 32),
        ValueError,
        accepts=lambda: IstftConfig(64, 32, 32),
    )


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
        judge.same(layout, given_, before)
        given_.flags.writeable = False
        judge.same(f"{layout}, read-only", istft_stage(given_, SMALL, layout) + 1, samples)


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
    judge.same("samples", samples[silent], np.zeros(silent.sum(), np.float32))


STREAMED = {
    name: CASES[name].config for name in CASES if CASES[name].config.center and name != "n1"
}
_LONGEST = 16  # frames


@cache
def streamed_frames(name: str) -> tuple[npt.NDArray[np.float32], Float64]:
    """A spectrum (F, T, 2) and its frames (T, n_fft) by definition."""
    spectrum = spectrum_of(STREAMED[name], _LONGEST).astype(np.float32)
    return spectrum, frames_of(as_complex(spectrum), STREAMED[name])


def stream(config: IstftConfig, spectrum: npt.NDArray[Any], cuts: list[int]) -> list[Any]:
    """The pieces of samples for pieces of frames that end at the cuts."""
    streaming, edges = StreamingIstft(config), [0, *sorted(cuts), spectrum.shape[1]]
    return [
        streaming.push(spectrum[None, :, begin:end], last=place == len(edges) - 2)
        for place, (begin, end) in enumerate(pairwise(edges))
    ]


@pytest.mark.requirement("IS-22")
@pytest.mark.parametrize("name", STREAMED)
@EXPLORED
@given(data=st.data())
def test_a_stream_is_the_whole_however_it_is_cut(judge: Judge, name: str, data: Any) -> None:
    config, (spectrum, frames) = STREAMED[name], streamed_frames(name)
    count = data.draw(st.integers(0, _LONGEST), label="frames")
    cuts = data.draw(st.lists(st.integers(0, count), max_size=8), label="cuts")
    expected = defined(frames[:count], config)
    joined = np.concatenate(stream(config, spectrum[:, :count], cuts))
    judge.equal("samples", len(joined), len(expected))
    if len(expected):
        judge.close(name, joined, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-23")
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_gives_every_sample_that_is_settled(judge: Judge, name: str) -> None:
    # A sample is settled once no later frame reaches it and it is sure to be wanted.
    config, (spectrum, _) = STREAMED[name], streamed_frames(name)
    half, hop, odd = config.n_fft // 2, config.hop_length, config.n_fft % 2
    given_ = np.cumsum([len(piece) for piece in stream(config, spectrum, list(range(1, _LONGEST)))])
    for count, total in enumerate(given_[:-1], start=1):
        wanted = max(0, min(count * hop - half, (count - 1) * hop + odd))
        judge.equal(f"after {count} frames", int(total), wanted)


@pytest.mark.requirement("IS-24")
def test_pieces_already_given_stay_as_they_are(judge: Judge) -> None:
    spectrum = spectrum_of(SMALL, 12).astype(np.float32)[None]
    streaming = StreamingIstft(SMALL)
    kept = [streaming.push(spectrum[:, :, t : t + 3], last=t == 9) for t in range(0, 12, 3)]
    copies = [piece.copy() for piece in kept[:-1]]
    spectrum[:] = 0
    StreamingIstft(SMALL).push(spectrum)
    for place, copied in enumerate(copies):
        judge.same(f"piece {place}", kept[place], copied)


@pytest.mark.requirement("IS-25")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(64, 16, 64, center=False),
        IstftConfig(64, 64, 64),
    ],
    ids=["uncentred", "gaps"],
)
def test_a_stream_that_cannot_be_is_refused(judge: Judge, config: IstftConfig) -> None:
    judge.refuses(
        "configuration",
        lambda: StreamingIstft(config),
        ValueError,
        accepts=lambda: StreamingIstft(SMALL),
    )
