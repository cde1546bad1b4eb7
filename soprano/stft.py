"""Spectrum -> samples: the inverse short-time Fourier transform (ISTFT), offline and streaming.

y[n] = sum_t w[n - t*hop] * irfft(X_t)[n - t*hop] / sum_t w[n - t*hop]**2
(Griffin & Lim 1984, eq. 6), trimmed by n_fft//2 at both ends if `center` is set.
The denominator is the envelope. A sample whose envelope is zero is zero.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from soprano.config import IstftConfig

Array = npt.NDArray[np.floating]
LAYOUTS = ("bft2", "b2ft", "auto")

# Windows as sums of cosines over one period.
_COSINES = {
    "hann": (0.5, -0.5),
    "hamming": (0.54, -0.46),
    "blackman": (0.42, -0.5, 0.08),
    "rectangular": (1.0,),
}

# No sample can be recovered where the envelope is not above this, the bound that
# scipy.signal.check_NOLA uses.
_LEAST_ENVELOPE = 1e-10


def istft(
    spectrum: npt.ArrayLike,
    config: IstftConfig,
    layout: str = "bft2",
    *,
    length: int | None = None,
) -> Array:
    """Samples (B, N) of a spectrum.

    Args:
        spectrum: real then imaginary parts, (B, F, T, 2) for layout "bft2" or (B, 2, F, T) for
            "b2ft", float32 or float64; "auto" recognises the layout by F = `config.bins`.
        config: the sizes and the window.
        layout: "bft2", "b2ft" or "auto".
        length: number of samples; the output is truncated or padded with zeros. Default:
            (T - 1) * hop if centred (one more for an odd n_fft), else (T - 1) * hop + n_fft;
            0 for T = 0.

    Raises:
        ValueError: the shape does not fit the layout, or fits both for "auto"; or overlapping
            windows leave a gap between frames (the nonzero overlap-add condition).
    """
    _require_overlap(config)
    if length is not None and length < 0:
        raise ValueError(f"length must be at least 0, got {length}")
    frames = to_frames(spectrum, config, layout)
    count = frames.shape[1]
    padded = _overlap_add(_windowed(frames, config), config.hop_length, config.n_fft)
    envelope = _envelope(count, config).astype(frames.dtype)
    start = config.n_fft // 2 if config.center else 0
    stop = padded.shape[1] - start if length is None else min(start + length, padded.shape[1])
    summed, weights = padded[:, start:stop], envelope[start:stop]
    reached = weights > _LEAST_ENVELOPE
    samples = np.where(reached, summed / np.where(reached, weights, 1), 0).astype(frames.dtype)
    missing = 0 if length is None else length - samples.shape[1]
    return np.pad(samples, ((0, 0), (0, max(missing, 0))))


def recognize_layout(shape: tuple[int, ...], bins: int) -> str:
    """The only layout that fits the shape of a spectrum with `bins` frequencies."""
    fits_bft2 = len(shape) == 4 and shape[1] == bins and shape[3] == 2
    fits_b2ft = len(shape) == 4 and shape[1] == 2 and shape[2] == bins
    if fits_bft2 and fits_b2ft:
        raise ValueError(f"spectrum of shape {shape} fits both layouts: pass one of them")
    if not fits_bft2 and not fits_b2ft:
        raise ValueError(
            f"spectrum must be (B, {bins}, T, 2) or (B, 2, {bins}, T), got shape {shape}"
        )
    return "bft2" if fits_bft2 else "b2ft"


def to_frames(spectrum: npt.ArrayLike, config: IstftConfig, layout: str = "bft2") -> Array:
    """Frames (B, T, n_fft) of a spectrum: the inverse DFTs, before windowing."""
    values = np.asarray(spectrum)
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(f"spectrum must be float32 or float64, got {values.dtype}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "auto":
        layout = recognize_layout(values.shape, config.bins)
    wanted = (config.bins, 2) if layout == "bft2" else (2, config.bins)
    axes = (1, 3) if layout == "bft2" else (1, 2)
    if values.ndim != 4 or tuple(values.shape[axis] for axis in axes) != wanted:
        expected = f"(B, {config.bins}, T, 2)" if layout == "bft2" else f"(B, 2, {config.bins}, T)"
        raise ValueError(f"spectrum in layout {layout!r} must be {expected}, got {values.shape}")
    # (B, T, F, 2), contiguous, so that real and imaginary part can be viewed as one complex number
    paired = values.transpose(0, 2, 1, 3) if layout == "bft2" else values.transpose(0, 3, 2, 1)
    complex_type = np.complex64 if values.dtype == np.float32 else np.complex128
    bins = np.ascontiguousarray(paired).view(complex_type)[..., 0]
    norm: Literal["ortho", "backward"] = "ortho" if config.normalized else "backward"
    if not bins.size:
        return np.zeros((*bins.shape[:2], config.n_fft), values.dtype)
    if config.onesided:
        return np.fft.irfft(bins, config.n_fft, axis=-1, norm=norm).astype(values.dtype)
    return np.fft.ifft(bins, axis=-1, norm=norm).real.astype(values.dtype)


@lru_cache(maxsize=16)
def window(config: IstftConfig) -> npt.NDArray[np.float64]:
    """The periodic window (n_fft,); a shorter one is centred and padded with zeros."""
    if config.window not in _COSINES:
        raise ValueError(f"window must be one of {', '.join(_COSINES)}, got {config.window!r}")
    phase = 2 * np.pi * np.arange(config.win_length) / config.win_length
    terms = [c * np.cos(k * phase) for k, c in enumerate(_COSINES[config.window])]
    left = (config.n_fft - config.win_length) // 2
    values = np.pad(np.sum(terms, axis=0), (left, config.n_fft - config.win_length - left))
    values.flags.writeable = False  # the cached array is shared by all callers
    return values


@lru_cache(maxsize=16)
def _require_overlap(config: IstftConfig) -> None:
    squares = window(config) ** 2
    hops = -(-config.n_fft // config.hop_length)
    steady = np.pad(squares, (0, hops * config.hop_length - config.n_fft)).reshape(hops, -1)
    if steady.sum(axis=0).min() <= _LEAST_ENVELOPE:
        raise ValueError(
            f"hop_length {config.hop_length} leaves gaps between {config.window} windows of "
            f"{config.win_length} samples"
        )


def _windowed(frames: Array, config: IstftConfig) -> Array:
    return frames * window(config).astype(frames.dtype)


def _overlap_add(frames: Array, hop: int, size: int) -> Array:
    """(B, T, size) -> (B, (T - 1) * hop + size): frames added `hop` samples apart."""
    batch, count, _ = frames.shape
    if not count:
        return np.zeros((batch, 0), frames.dtype)
    # Each frame is divided into blocks of one hop; block k of frame t is added to hop t + k.
    blocks = -(-size // hop)
    padded = np.pad(frames, ((0, 0), (0, 0), (0, blocks * hop - size)))
    total = np.zeros((batch, count - 1 + blocks, hop), frames.dtype)
    for k in range(blocks):
        total[:, k : k + count] += padded[:, :, k * hop : (k + 1) * hop]
    return total.reshape(batch, -1)[:, : (count - 1) * hop + size]


def _envelope(count: int, config: IstftConfig) -> npt.NDArray[np.float64]:
    """The sum of the squared windows of `count` frames, before trimming."""
    squares = np.broadcast_to(window(config) ** 2, (1, count, config.n_fft))
    envelope: npt.NDArray[np.float64] = _overlap_add(squares, config.hop_length, config.n_fft)[0]
    return envelope


class StreamingIstft:
    """The centred ISTFT of frames that arrive in chunks.

    The concatenated chunks of samples equal `istft` of all frames.
    """

    def __init__(self, config: IstftConfig) -> None:
        if not config.center:
            raise ValueError("a streaming ISTFT must be centred")
        _require_overlap(config)
        self._config = config
        self._tail = np.zeros((1, 0, config.n_fft), np.float32)
        self._frames = 0  # pushed so far
        self._samples = 0  # returned so far

    def push(self, spectrum: npt.NDArray[np.float32], *, last: bool = False) -> Array:
        """The next samples (N,) that no later frame can change, after frames (1, F, T, 2).

        With `last`, all remaining samples.
        """
        config = self._config
        frames = np.concatenate([self._tail, to_frames(spectrum, config)], axis=1)
        self._frames += spectrum.shape[2]
        first = self._frames - frames.shape[1]
        settled = self.settled(self._frames, last=last)
        # `frames` has every frame that overlaps a sample not yet returned.
        summed = _overlap_add(_windowed(frames, config), config.hop_length, config.n_fft)[0]
        offset = config.n_fft // 2 - first * config.hop_length
        envelope = self._envelope_between(self._samples, settled).astype(summed.dtype)
        samples: Array = summed[self._samples + offset : settled + offset] / envelope
        self._samples = settled
        self._tail = frames[:, max(self._first_needed() - first, 0) :]
        return samples

    def settled(self, frames: int, *, last: bool = False) -> int:
        """The number of samples that no frame after the first `frames` can change."""
        if not frames:
            return 0
        natural = (frames - 1) * self._config.hop_length + self._config.n_fft % 2
        if last:
            return natural
        reached = frames * self._config.hop_length - self._config.n_fft // 2
        return max(min(reached, natural), self._samples)

    def _first_needed(self) -> int:
        """The first frame that overlaps a sample not yet returned."""
        reach = self._samples + self._config.n_fft // 2 - self._config.n_fft
        return max(reach // self._config.hop_length + 1, 0)

    def _envelope_between(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """The envelope at samples start to stop, of the frames pushed so far."""
        config, half = self._config, self._config.n_fft // 2
        if stop <= start:
            return np.ones(0)
        first = max((start + half - config.n_fft) // config.hop_length + 1, 0)
        count = min((stop - 1 + half) // config.hop_length + 1, self._frames) - first
        begin = start + half - first * config.hop_length
        return _envelope(count, config)[begin : begin + stop - start]
