"""The inverse transform by its defining sums in float64, and the cases that it is judged on.

The sums share nothing with the package: no fast transform, windows and trims of their own.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from soprano.config import IstftConfig

Float64 = npt.NDArray[np.float64]
Istft = Any  # (spectrum, config, layout, *, length) -> samples

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
    from conformance.judging.tolerances import transform

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


def inverse_transform(
    spectrum: npt.NDArray[np.floating], n_fft: int, hop: int, window: npt.ArrayLike
) -> Float64:
    """Samples of a centred one-sided spectrum (F, T, 2), by the defining sums.

    Each frame is a sum of cosines and sines; no fast transform is used.
    """
    parts = np.asarray(spectrum, np.float64)
    count, bins = parts.shape[1], parts.shape[0]
    angles = 2 * np.pi * np.outer(np.arange(n_fft), np.arange(bins)) / n_fft
    cosines, sines = np.cos(angles), np.sin(angles)
    twice = np.full(bins, 2.0)
    twice[0] = 1
    if n_fft % 2 == 0:
        twice[-1] = 1
    real, imaginary = (twice[:, None] * parts[..., part] for part in (0, 1))  # (F, T)
    frames = (cosines @ real - sines @ imaginary) / n_fft  # (n_fft, T)
    total = np.zeros(max(count - 1, 0) * hop + n_fft)
    envelope = np.zeros_like(total)
    weights = np.asarray(window, np.float64)
    for t in range(count):
        total[t * hop : t * hop + n_fft] += frames[:, t] * weights
        envelope[t * hop : t * hop + n_fft] += weights**2
    half = n_fft // 2
    kept = slice(half, half + max(count - 1, 0) * hop)
    return total[kept] / envelope[kept]
