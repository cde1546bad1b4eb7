"""The sampler and the ISTFT by definition in float64, with steps that can be replaced.

`Sampler()` and `Istft()` are correct. A wrong convention replaces one of their steps; the steps of
known conventions are here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.istft import Complex128, Float64, periodic_window
from conformance.oracle.sampler import Ints, keep, penalize, softmax_weights
from soprano.config import IstftConfig, SamplingOptions


def penalize_each(scores: Float64, history: Ints, penalty: float) -> Float64:
    for i in history:
        scores = penalize(scores, np.array([i]), penalty)
    return scores


def divide_only(scores: Float64, history: Ints, penalty: float) -> Float64:
    scores = scores.copy()
    scores[np.unique(history)] /= penalty
    return scores


def keep_top_p_first(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
    nucleus = keep(ranked, scores, replace(options, top_k=0))
    return keep(nucleus, scores, replace(options, top_p=1.0))


def keep_ties(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
    if 0 < options.top_k < len(ranked):
        least = scores[ranked[options.top_k - 1]]
        options = replace(options, top_k=int((scores >= least).sum()))
    return keep(ranked, scores, options)


def keep_of_256(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
    filtering = options.top_k or options.top_p < 1
    return keep(ranked[:256] if filtering else ranked, scores, options)


def draw(
    ranked: Ints, weights: Float64, uniform: float, *, by_rank: bool = False, dtype: Any = float
) -> int:
    """The first id, in ascending order, whose cumulative probability exceeds the uniform."""
    ids = ranked if by_rank else np.sort(ranked)
    edges = np.cumsum((weights[ids] / weights[ids].sum()).astype(dtype), dtype=dtype)
    index = int(np.searchsorted(edges, dtype(uniform) * edges[-1], side="right"))
    possible = np.flatnonzero(weights[ids])
    return int(ids[min(index, possible[-1])])


def highest(scores: Float64, logits: Float64) -> int:
    """Greedy choice from penalised scores."""
    return int(np.argmax(scores))


@dataclass(frozen=True)
class Sampler:
    """A sampler by definition in float64; each field is a step that a convention replaces."""

    options: Callable[[SamplingOptions], SamplingOptions] = lambda options: options
    penalize: Callable[[Float64, Ints, float], Float64] = penalize
    greedy: Callable[[Float64, Float64], int] = highest
    keep: Callable[[Ints, Float64, SamplingOptions], Ints] = keep
    draw: Callable[[Ints, Float64, float], int] = draw

    def __call__(
        self,
        logits: npt.ArrayLike,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        raw, ids = np.array(logits, np.float64), np.asarray(history, np.int64)
        if raw.ndim != 1 or not raw.size or not -np.inf < raw.max() < np.inf:
            raise ValueError("logits must be (V,), without NaN or +inf, with an id that is allowed")
        if ids.size and not 0 <= ids.min() <= ids.max() < raw.size:
            raise ValueError("the history contains ids outside the vocabulary")
        if options.temperature and (uniform is None or not 0 <= uniform < 1):
            raise ValueError(f"uniform must be in [0, 1), got {uniform!r}")
        options = self.options(options)
        scores = self.penalize(raw, ids, options.repetition_penalty)
        if not options.temperature:
            return self.greedy(scores, raw)
        ranked = self.keep(np.argsort(-scores, kind="stable"), scores, options)
        weights = softmax_weights(scores, options.temperature)
        return self.draw(ranked, weights, 0.5 if uniform is None else uniform)


def overlap_add(frames: Float64, hop: int) -> Float64:
    """(B, T, n) -> (B, (T - 1) * hop + n): frames added `hop` samples apart."""
    batch, count, size = frames.shape
    total = np.zeros((batch, (count - 1) * hop + size if count else 0))
    for t in range(count):
        total[:, t * hop : t * hop + size] += frames[:, t]
    return total


def envelope(window: Float64, count: int, hop: int) -> Float64:
    """The sum of the squared windows of `count` frames, before trimming."""
    return overlap_add(np.tile(window**2, (1, count, 1)), hop)[0]


def endless_envelope(window: Float64, count: int, hop: int) -> Float64:
    blocks = -(-len(window) // hop)
    period = np.pad(window**2, (0, blocks * hop - len(window))).reshape(blocks, hop).sum(axis=0)
    return np.resize(period, len(envelope(window, count, hop)))


def symmetric_window(config: IstftConfig) -> Float64:
    """The window of filter design, whose first and last values are equal."""
    size = config.win_length
    if size < 2:
        return periodic_window(config)
    points = periodic_window(replace(config, n_fft=size - 1, win_length=size - 1, hop_length=1))
    left = (config.n_fft - size) // 2
    return np.pad(np.append(points, points[0]), (left, config.n_fft - size - left))


def left_aligned_window(config: IstftConfig) -> Float64:
    return np.roll(periodic_window(config), -((config.n_fft - config.win_length) // 2))


def without_edges(bins: Complex128) -> Complex128:
    return np.concatenate([0 * bins[..., :1], bins[..., 1:-1], 0 * bins[..., -1:]], axis=-1)


def from_power_of_two(frames: Float64, config: IstftConfig) -> Float64:
    """Frames computed with the next power of two samples, of which the nearest are taken."""
    size = config.n_fft
    if size & (size - 1) == 0 or not frames.size:
        return frames
    larger = 1 << size.bit_length()
    wide = np.fft.irfft(np.fft.rfft(frames, axis=-1), larger, axis=-1) * larger / size
    return wide[..., np.rint(np.arange(size) * larger / size).astype(int) % larger]


def half_a_frame(config: IstftConfig, count: int) -> int:
    return config.n_fft // 2


@dataclass(frozen=True)
class Istft:
    """The inverse STFT by definition in float64; each field is a step that a convention replaces.

    The result has the type of the spectrum.
    """

    window: Callable[[IstftConfig], Float64] = periodic_window
    envelope: Callable[[Float64, int, int], Float64] = envelope
    hop: Callable[[IstftConfig], int] = lambda config: config.hop_length
    bins: Callable[[Complex128], Complex128] = lambda bins: bins  # (B, T, F)
    frames: Callable[[Float64, IstftConfig], Float64] = lambda frames, config: frames
    scale: Callable[[IstftConfig], float] = lambda config: 1.0
    trim: Callable[[IstftConfig, int], int] = half_a_frame  # of T frames, at each end

    def __call__(
        self,
        spectrum: npt.ArrayLike,
        config: IstftConfig,
        layout: str = "bft2",
        *,
        length: int | None = None,
    ) -> npt.NDArray[np.floating]:
        if length is not None and length < 0:
            raise ValueError(f"length must be at least 0, got {length}")
        if endless_envelope(periodic_window(config), 1, config.hop_length).min() <= 1e-10:
            raise ValueError("the hop leaves gaps between the windows")
        bins = self.bins(complex_bins(spectrum, config, layout))
        count, hop, window = bins.shape[1], self.hop(config), self.window(config)
        norm: Any = "ortho" if config.normalized else "backward"
        inverse = np.fft.irfft if config.onesided else np.fft.ifft
        frames = self.frames(np.real(inverse(bins, config.n_fft, norm=norm)), config)
        total, weights = overlap_add(frames * window, hop), self.envelope(window, count, hop)
        recovered = np.zeros_like(total)
        np.divide(total, weights, out=recovered, where=weights > 1e-10)
        edge = self.trim(config, count) if config.center else 0
        stop = total.shape[1] - edge if length is None else edge + length
        kept = recovered[:, edge : max(stop, 0)] * self.scale(config)
        missing = 0 if length is None else length - kept.shape[1]
        padded = np.pad(kept, ((0, 0), (0, missing)))
        return padded.astype(np.asarray(spectrum).dtype)


def complex_bins(spectrum: npt.ArrayLike, config: IstftConfig, layout: str) -> Complex128:
    """Bins (B, T, F) of a spectrum in a layout."""
    values = np.asarray(spectrum)
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(f"spectrum must be float32 or float64, got {values.dtype}")
    fits = {
        "bft2": values.ndim == 4 and values.shape[1::2] == (config.bins, 2),
        "b2ft": values.ndim == 4 and values.shape[1:3] == (2, config.bins),
    }
    if layout == "auto" and sum(fits.values()) == 1:
        layout = next(name for name, fit in fits.items() if fit)
    if not fits.get(layout):
        raise ValueError(f"spectrum of shape {values.shape} cannot be read in layout {layout!r}")
    pair = np.moveaxis(values, 3 if layout == "bft2" else 1, 0).astype(np.float64)
    return (pair[0] + 1j * pair[1]).transpose(0, 2, 1)
