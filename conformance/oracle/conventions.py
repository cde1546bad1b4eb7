"""Known wrong conventions: each is an ordinary stage, written once.

The laws compare a stage with each convention and name the one that it follows. The fault catalogue
plants the same objects in place of the right stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import hidden_states
from conformance.oracle.istft import inverse_stft, periodic_window
from conformance.oracle.sampler import Float64, Ints, keep, penalize, softmax_weights
from soprano.config import IstftConfig, SamplingOptions
from soprano.stages import Stages

Complex128 = npt.NDArray[np.complex128]
Array = npt.NDArray[Any]


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


SAMPLERS: dict[str, Sampler] = {
    "top-k 50 where none was asked for": Sampler(lambda o: replace(o, top_k=o.top_k or 50)),
    "top-p only together with top-k": Sampler(lambda o: o if o.top_k else replace(o, top_p=1.0)),
    "the id that crosses p is dropped": Sampler(
        keep=partial(keep, count=lambda mass, p: max(int((mass <= p * mass[-1]).sum()), 1))
    ),
    "top-p over weights that do not sum to 1": Sampler(
        keep=partial(keep, count=lambda mass, p: int(np.searchsorted(mass, p)) + 1)
    ),
    "top-p before temperature": Sampler(
        keep=lambda ranked, scores, o: keep(ranked, scores, replace(o, temperature=1.0))
    ),
    "top-p before top-k": Sampler(keep=keep_top_p_first),
    "top-k keeps all ids that tie with the last": Sampler(keep=keep_ties),
    "only the 256 best ids are ranked": Sampler(keep=keep_of_256),
    "a penalty for every occurrence": Sampler(penalize=penalize_each),
    "no penalty": Sampler(penalize=lambda scores, history, penalty: scores),
    "the penalty always divides": Sampler(penalize=divide_only),
    "a penalty for the last 64 ids only": Sampler(
        penalize=lambda scores, history, penalty: penalize(scores, history[-64:], penalty)
    ),
    "no penalty for [STOP]": Sampler(  # whose id is 3
        penalize=lambda scores, history, penalty: penalize(scores, history[history != 3], penalty)
    ),
    "temperature 0 is 0.001": Sampler(lambda o: replace(o, temperature=o.temperature or 0.001)),
    "temperature 0 ignores the penalty": Sampler(greedy=lambda scores, logits: highest(logits, 0)),
    "temperature 0 takes the last of equal logits": Sampler(
        greedy=lambda scores, logits: int(np.flatnonzero(scores == scores.max())[-1])
    ),
    "drawn in the order of rank": Sampler(draw=partial(draw, by_rank=True)),
    "drawn in single precision": Sampler(draw=partial(draw, dtype=np.float32)),
}


def sampler_questions() -> list[tuple[Array, list[int], SamplingOptions, float]]:
    """Logits, history, options and uniform; every convention answers some of them differently.

    (Temperature before the penalty is not a convention of its own: the two commute.)
    """
    rng = np.random.default_rng(13)
    greedy, plain = SamplingOptions(0.0, 1.0, 0, 1.5), SamplingOptions(1.0, 1.0, 0, 1.0)
    options = [
        greedy,
        SamplingOptions(1.5, 1.0, 0, 1.0),
        SamplingOptions(0.6, 0.9, 0, 1.3),
        SamplingOptions(1.4, 0.9, 20, 1.3),
        SamplingOptions(3.0, 0.7, 280, 2.0),
    ]
    questions: list[tuple[Array, list[int], SamplingOptions, float]] = []
    for turn in range(120):
        logits = rng.normal(0, 1, 300).astype(np.float32)
        if turn % 10 == 0:  # the second of two ids is higher by a hair
            logits[[3, 90]] = 9.0, 9.0005
        history = rng.integers(0, 300, 100).tolist()
        questions.append((logits, history, options[turn % len(options)], float(rng.random())))
    tied = np.array([1.0, 2.0, 1.0, 2.0, 1.0], np.float32)
    questions += [
        (tied, [], greedy, 0.5),
        (tied, [], replace(plain, top_k=3), 0.99),
        (np.zeros(1024, np.float32), [], plain, 0.5 - 2.0**-54),
    ]
    return questions


def samplers_followed(sample: Callable[..., int]) -> list[str]:
    """The conventions whose every answer the sampler gives."""
    questions = sampler_questions()
    answers = [sample(*question) for question in questions]
    return [
        name
        for name, convention in SAMPLERS.items()
        if answers == [convention(*question) for question in questions]
    ]


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
    """The Hann window of filter design, whose first and last values are equal."""
    if config.window != "hann" or config.win_length < 2:
        return periodic_window(config)
    phase = 2 * np.pi * np.arange(config.win_length) / (config.win_length - 1)
    left = (config.n_fft - config.win_length) // 2
    return np.pad(0.5 - 0.5 * np.cos(phase), (left, config.n_fft - config.win_length - left))


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


ISTFTS: dict[str, Istft] = {
    "a symmetric window": Istft(window=symmetric_window),
    "a shorter window at the left of the frame": Istft(window=left_aligned_window),
    "the sum of windows instead of squares": Istft(
        envelope=lambda window, count, hop: envelope(np.sqrt(np.abs(window)), count, hop)
    ),
    "no division by the envelope": Istft(
        envelope=lambda window, count, hop: np.ones_like(envelope(window, count, hop))
    ),
    "the envelope of an endless signal": Istft(envelope=endless_envelope),
    "the envelope plus 1e-5": Istft(
        envelope=lambda window, count, hop: envelope(window, count, hop) + 1e-5
    ),
    "the envelope clamped at 0.01": Istft(
        envelope=lambda window, count, hop: np.maximum(envelope(window, count, hop), 1e-2)
    ),
    "no 1/n_fft": Istft(scale=lambda config: config.n_fft),
    "1/sqrt(n_fft)": Istft(scale=lambda config: config.n_fft**0.5),
    "scaled by the window's sum": Istft(scale=lambda config: periodic_window(config).sum()),
    "the conjugate spectrum": Istft(bins=np.conj),
    "DC and Nyquist zeroed in the ISTFT": Istft(bins=without_edges),
    'trimmed for "same" padding': Istft(
        trim=lambda config, count: (config.win_length - config.hop_length) // 2
    ),
    "not trimmed": Istft(trim=lambda config, count: 0),
    "fewer than five frames trimmed by a hop": Istft(
        trim=lambda config, count: config.hop_length if count < 5 else config.n_fft // 2
    ),
    "a hop of a quarter of the window": Istft(hop=lambda config: max(config.win_length // 4, 1)),
    "an FFT of the next power of two": Istft(frames=from_power_of_two),
}


def istft_questions() -> list[tuple[Array, IstftConfig]]:
    """Spectra (F, T, 2) with energy in every bin; every convention differs on some of them."""
    rng = np.random.default_rng(9)
    configs = {
        IstftConfig(64, 16, 64): (9, 3),
        IstftConfig(60, 20, 48): (9,),
        IstftConfig(64, 64, 64, "hamming"): (9,),  # its envelope is below 0.01 at the edges
    }
    return [
        (rng.standard_normal((config.bins, count, 2)).astype(np.float32), config)
        for config, counts in configs.items()
        for count in counts
    ]


def istfts_followed(istft: Callable[..., Array]) -> list[str]:
    """The conventions that give the samples of this inverse STFT."""
    questions = istft_questions()
    answers = [istft(spectrum[None], config, "bft2")[0] for spectrum, config in questions]
    right = [inverse_stft(spectrum, config) for spectrum, config in questions]
    return [
        name
        for name, wrong in ISTFTS.items()
        if _nearest(answers, [wrong(s[None].astype(float), c)[0] for s, c in questions], right)
    ]


def _nearest(answers: Sequence[Array], wrong: Sequence[Array], right: Sequence[Array]) -> bool:
    """Whether the answers are those of a convention, and not as near to the right ones."""
    total = _distance(answers, wrong)
    return total < 1e-4 and total < 0.1 * _distance(answers, right)


def _distance(answers: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest relative RMS difference of pairs of arrays; inf where the shapes differ."""
    if any(np.shape(a) != np.shape(b) for a, b in zip(answers, expected, strict=True)):
        return np.inf
    return max(
        float(np.sqrt(np.mean(np.square(a - b)) / np.mean(np.square(b))))
        for a, b in zip(answers, expected, strict=True)
    )


# The hidden states that a convention decodes, from those of the prompt's ids (without the last)
# and those that predict each generated id and the end (`hidden_states`).
ALIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "the state after feeding a token, not the one that predicted it": lambda prompt, h: h[1:],
    "a tail state: the one that predicts the end is decoded too": lambda prompt, h: h,
    "the first state is dropped": lambda prompt, h: h[1:-1],
    "the last state is dropped": lambda prompt, h: h[:-2],
    "the prompt's states are decoded too": lambda prompt, h: np.concatenate([prompt, h[:-1]]),
}


def alignments_followed(
    stages: Stages, prompt: Sequence[int], ids: Sequence[int], samples: Array
) -> list[str]:
    """The conventions of hidden states that give these samples (N,) for these ids."""
    backend = stages.language_model
    states = hidden_states(backend, prompt, ids)
    before = hidden_states(backend, prompt[:1], prompt[1:])[:-1]
    chosen = {name: choose(before, states) for name, choose in ALIGNMENTS.items()}
    return [
        name
        for name, hidden in chosen.items()
        if stages.config.decoder.samples(len(hidden)) == len(samples)
        and _distance([samples], [defined_samples(stages, hidden)]) < 1e-4
    ]


def defined_samples(stages: Stages, hidden: Array) -> Float64:
    """Samples (N,) of hidden states (T, H): the decoder, then the inverse STFT by definition."""
    spectrum = stages.decode(hidden[None], np.array([len(hidden)]))[0]
    return inverse_stft(spectrum, stages.config.decoder.istft)
