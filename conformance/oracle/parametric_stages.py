"""The sampler and the ISTFT by definition in float64, with steps that can be replaced.

`Sampler()` and `Istft()` are correct. A wrong convention replaces one of their steps; the steps of
known conventions are here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from conformance.oracle.istft import Complex128, Float64, periodic_window
from conformance.oracle.sampler import Ints, penalize, softmax_weights, top_k, top_p
from soprano.config import IstftConfig, SamplingOptions


def penalize_history(scores: Float64, history: Ints, options: SamplingOptions) -> Float64:
    return penalize(scores, history, options.repetition_penalty)


def rank(scores: Float64, options: SamplingOptions) -> Ints:
    """Ids by falling score, of equal scores the lowest first."""
    return np.argsort(-scores, kind="stable")


def highest(scores: Float64, logits: Float64) -> int:
    """Greedy choice from penalised scores."""
    return int(np.argmax(scores))


def draw(ranked: Ints, weights: Float64, uniforms: Float64, *, dtype: Any = float) -> Ints:
    """For each uniform, the first id whose cumulative probability exceeds it; ascending ids."""
    return first_above(np.sort(ranked), weights, uniforms, dtype=dtype)


def first_above(
    ids: Ints,
    weights: Float64,
    uniforms: Float64,
    *,
    total: float | None = None,
    dtype: Any = float,
) -> Ints:
    """The first of the ids, in the order given, whose cumulative probability exceeds the uniform.

    `weights` (V,) are probabilities up to the factor `total`, by default the sum over the ids.
    """
    kept = weights[ids]
    edges = np.cumsum((kept / (kept.sum() if total is None else total)).astype(dtype), dtype=dtype)
    limits = uniforms.astype(dtype) * (edges[-1] if total is None else dtype(1))
    indices = np.searchsorted(edges, limits, side="right")
    return ids[np.minimum(indices, np.flatnonzero(kept)[-1])]


@dataclass(frozen=True)
class Sampler:
    """A sampler by definition in float64; each field is a step that a convention replaces."""

    CHAINED: ClassVar = ("options", "logits")

    options: Callable[[SamplingOptions], SamplingOptions] = lambda options: options
    logits: Callable[[Float64], Float64] = lambda logits: logits
    penalize: Callable[[Float64, Ints, SamplingOptions], Float64] = penalize_history
    greedy: Callable[[Float64, Float64], int] = highest
    rank: Callable[[Float64, SamplingOptions], Ints] = rank
    top_k: Callable[[Ints, Float64, SamplingOptions], Ints] = top_k
    top_p: Callable[[Ints, Float64, SamplingOptions], Ints] = top_p
    top_p_first: bool = False  # before top-k
    draw: Callable[[Ints, Float64, Float64], Ints] = draw

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
        uniforms = np.array([0.5 if uniform is None else uniform])
        return int(self.ids(raw, ids, options, uniforms, {})[0])

    def ids(
        self,
        logits: Float64,
        history: Ints,
        options: SamplingOptions,
        uniforms: Float64,
        memo: dict[Any, Any],
    ) -> Ints:
        """The id of each uniform.

        `memo` keeps intermediate results by the steps that they depend on, for other samplers that
        are asked the same.
        """
        before = self.options, self.logits, self.penalize
        if before not in memo:
            changed, raw = self.options(options), self.logits(logits)
            memo[before] = changed, raw, self.penalize(raw, history, changed)
        options, raw, scores = memo[before]
        if not options.temperature:
            return np.full(len(uniforms), self.greedy(scores, raw))
        filters = *before, self.rank, self.top_k, self.top_p, self.top_p_first
        if filters not in memo:
            memo[filters] = (
                self._kept(scores, options),
                softmax_weights(scores, options.temperature),
            )
        kept, weights = memo[filters]
        return self.draw(kept, weights, uniforms)

    def _kept(self, scores: Float64, options: SamplingOptions) -> Ints:
        kept = self.rank(scores, options)
        filters = (self.top_p, self.top_k) if self.top_p_first else (self.top_k, self.top_p)
        for keep in filters:
            kept = keep(kept, scores, options)
        return kept


LEAST_ENVELOPE = 1e-10  # no sample can be recovered where the envelope is not above this


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


def half_a_frame(config: IstftConfig, count: int) -> tuple[int, int]:
    return config.n_fft // 2, config.n_fft // 2


@dataclass(frozen=True)
class Istft:
    """The inverse STFT by definition in float64; each field is a step that a convention replaces.

    The result has the type of the spectrum.
    """

    CHAINED: ClassVar = ("config", "bins", "frames", "samples")

    config: Callable[[IstftConfig], IstftConfig] = lambda config: config
    bins: Callable[[Complex128, IstftConfig], Complex128] = lambda bins, config: bins  # (B, T, F)
    frames: Callable[[Float64, IstftConfig], Float64] = lambda frames, config: frames  # (B, T, n)
    window: Callable[[IstftConfig], Float64] = periodic_window
    synthesis: Callable[[Float64, Float64], Float64] = lambda frames, window: frames * window
    envelope: Callable[[Float64, int, int], Float64] = envelope  # window, T, hop
    trim: Callable[[IstftConfig, int], tuple[int, int]] = half_a_frame  # of T frames, at both ends
    samples: Callable[[Float64, IstftConfig], Float64] = lambda samples, config: samples  # (B, N)

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
        if _least_envelope(config) <= LEAST_ENVELOPE:
            raise ValueError("the hop leaves gaps between the windows")
        bins = complex_bins(spectrum, config, layout)
        recovered, start, end = self.recovered(bins, config, {})
        stop = recovered.shape[1] - end if length is None else start + length
        samples = self.samples(recovered[:, start : max(stop, 0)], self.config(config))
        missing = 0 if length is None else max(length - samples.shape[1], 0)
        padded = np.pad(samples, ((0, 0), (0, missing)))
        return padded.astype(np.asarray(spectrum).dtype)

    def recovered(
        self, bins: Complex128, config: IstftConfig, memo: dict[Any, Any]
    ) -> tuple[Float64, int, int]:
        """Samples (B, N) of bins (B, T, F), and how many to trim at the start and at the end.

        `memo` keeps intermediate results by the steps that they depend on, for other stages that
        are asked the same.
        """
        config = self.config(config)
        before = self.config, self.bins, self.frames
        if before not in memo:
            memo[before] = self._frames(self.bins(bins, config), config)
        frames = memo[before]
        steps = *before, self.window, self.synthesis, self.envelope
        if steps not in memo:
            window, hop = self.window(config), config.hop_length
            total = overlap_add(self.synthesis(frames, window), hop)
            weights = self.envelope(window, frames.shape[1], hop)
            reached = np.zeros_like(total)
            memo[steps] = np.divide(total, weights, out=reached, where=weights > LEAST_ENVELOPE)
        start, end = self.trim(config, frames.shape[1]) if config.center else (0, 0)
        return memo[steps], start, end

    def count(self, config: IstftConfig, frames: int) -> int:
        """The number of samples of T frames."""
        config = self.config(config)
        kept = self.frames(np.zeros((1, frames, config.n_fft)), config).shape[1]
        size = (kept - 1) * config.hop_length + config.n_fft if kept else 0
        trimmed = sum(self.trim(config, kept)) if config.center else 0
        return self.samples(np.zeros((1, max(size - trimmed, 0))), config).shape[1]

    def _frames(self, bins: Complex128, config: IstftConfig) -> Float64:
        norm: Any = "ortho" if config.normalized else "backward"
        inverse = np.fft.irfft if config.onesided else np.fft.ifft
        return self.frames(np.real(inverse(bins, config.n_fft, norm=norm)), config)


def _least_envelope(config: IstftConfig) -> float:
    """The smallest sum of squared windows, away from the ends."""
    blocks = -(-config.n_fft // config.hop_length)
    squares = envelope(periodic_window(config), 2 * blocks, config.hop_length)
    return float(squares[config.n_fft :][: config.hop_length].min())


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
