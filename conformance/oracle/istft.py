"""The inverse STFT by its defining sums in float64, and the configs that it is judged on.

It shares no code with the package: there is no FFT, and the window, the envelope and the trimming
are its own.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soprano.config import IstftConfig

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

DTYPES = (np.float32, np.float64)


class Case(NamedTuple):
    """A config, and the libraries whose inverse STFT is defined for it.

    torch rejects a sum of windows that is zero (uncentred Hann and Blackman), T = 0 and T = 1.
    scipy aligns a window shorter than n_fft differently and has no scaling by 1/sqrt(n_fft).
    Neither is compared for frames of a single sample.
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
SMALL = IstftConfig(64, 16, 64)


@cache
def periodic_window(config: IstftConfig) -> Float64:
    """One period of the window's cosine series, centred in n_fft points."""
    series = {
        "hann": (0.5, -0.5),
        "hamming": (0.54, -0.46),
        "blackman": (0.42, -0.5, 0.08),
        "rectangular": (1.0,),
    }[config.window]
    left, points = (config.n_fft - config.win_length) // 2, np.zeros(config.n_fft)
    for n in range(config.win_length):
        phase = 2 * math.pi * n / config.win_length
        points[left + n] = math.fsum(a * math.cos(k * phase) for k, a in enumerate(series))
    return points


@cache
def _waves(bins: int, n_fft: int) -> Complex128:
    """exp(2 pi i k n / n_fft) for bin k (rows) and sample n (columns)."""
    cycles = np.outer(np.arange(bins), np.arange(n_fft)) % n_fft
    return np.exp(2j * np.pi * np.arange(n_fft) / n_fft)[cycles]


def as_complex(spectrum: npt.NDArray[Any]) -> Complex128:
    return spectrum[..., 0].astype(np.float64) + 1j * spectrum[..., 1].astype(np.float64)


def bin_counts(config: IstftConfig) -> Float64:
    """How often each bin (F,) occurs in a two-sided spectrum.

    A one-sided bin occurs a second time as its conjugate, except DC and Nyquist.
    """
    paired = [config.onesided and 2 * k % config.n_fft != 0 for k in range(config.bins)]
    return np.where(paired, 2.0, 1.0)


def inverse_dft(spectrum: npt.NDArray[Any], config: IstftConfig) -> Float64:
    """(F, T, 2) -> (T, n_fft): the inverse DFT of each frame, before windowing."""
    bins = as_complex(spectrum) * bin_counts(config)[:, None]
    waves = _waves(config.bins, config.n_fft)
    sums = bins.real.T @ waves.real - bins.imag.T @ waves.imag
    return sums / (math.sqrt(config.n_fft) if config.normalized else config.n_fft)


def _sum_overlapping(frames: Float64, hop: int) -> Float64:
    """(T, n) -> ((T - 1) * hop + n,): frames added `hop` samples apart."""
    count, size = frames.shape
    total = np.zeros(max(count - 1, 0) * hop + size)
    for t, frame in enumerate(frames):
        total[t * hop :][:size] += frame
    return total


def envelope(count: int, config: IstftConfig) -> Float64:
    """The sum of the squared windows of `count` frames, before trimming."""
    return _sum_overlapping(np.tile(periodic_window(config) ** 2, (count, 1)), config.hop_length)


def overlap_add(frames: Float64, config: IstftConfig, *, length: int | None = None) -> Float64:
    """Samples (N,) of frames (T, n_fft)."""
    count, hop = len(frames), config.hop_length
    total, squares = (
        _sum_overlapping(frames * periodic_window(config), hop),
        envelope(count, config),
    )
    start = config.n_fft // 2 if config.center else 0
    if length is None:
        length = (count - 1) * hop + config.n_fft - 2 * start if count else 0
    samples = np.zeros(max(len(total), start + length))
    # No sample can be recovered where the envelope is not above 1e-10.
    reached = np.flatnonzero(squares > 1e-10)
    samples[reached] = total[reached] / squares[reached]
    return samples[start : start + length]


def inverse_stft(
    spectrum: npt.NDArray[Any], config: IstftConfig, *, length: int | None = None
) -> Float64:
    """Samples (N,) of a spectrum (F, T, 2)."""
    return overlap_add(inverse_dft(spectrum, config), config, length=length)


def stft(signal: Float64, config: IstftConfig, count: int) -> Float64:
    """The centred STFT (F, T, 2) of a signal (N,), with T = `count` frames."""
    half, hop = config.n_fft // 2, config.hop_length
    padded = np.pad(signal, (half, count * hop + config.n_fft))
    frames = np.stack([padded[t * hop :][: config.n_fft] for t in range(count)], axis=1)
    waves = _waves(config.bins, config.n_fft).conj()
    bins = waves @ (frames * periodic_window(config)[:, None])  # (F, T)
    if config.normalized:
        bins = bins / math.sqrt(config.n_fft)
    return np.stack([bins.real, bins.imag], axis=-1)


def random_spectrum(config: IstftConfig, count: int, seed: int = 0) -> Float64:
    """A spectrum (F, T, 2) of a real signal: DC and Nyquist real, two sides conjugate."""
    rng = np.random.default_rng([seed, config.n_fft, count])
    upper = rng.standard_normal((config.n_fft // 2 + 1, count, 2))
    upper[0, :, 1] = 0
    if config.n_fft % 2 == 0:
        upper[-1, :, 1] = 0
    if config.onesided:
        return upper
    lower = upper[1 : (config.n_fft + 1) // 2][::-1] * [1, -1]
    return np.concatenate([upper, lower])


def decoder_spectrum(config: IstftConfig, count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """A spectrum (F, T, 2) as the decoders of the family give it: DC and Nyquist are zero."""
    spectrum = random_spectrum(config, count, seed).astype(np.float32)
    spectrum[[0, -1]] = 0
    return spectrum
