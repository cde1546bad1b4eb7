"""Known wrong conventions, written out: what a port that follows one of them gives.

A number tells the author of a port that something is off; these tell which of the mistakes that
live in public code it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.istft import inverse_transform
from soprano.backends import Backend
from soprano.config import SamplingOptions

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sampler:
    """A sampler by definition in float64, with its steps as conventions vary them."""

    per_occurrence: bool = False
    penalty: str = "by sign"  # "by sign", "divide", "none"
    hidden_top_k: int = 0
    top_p_needs_top_k: bool = False
    top_p_before_temperature: bool = False
    top_p_before_top_k: bool = False
    crossing: str = "kept"  # "kept", "dropped", "raw" for unnormalised weights
    greedy_temperature: float = 0.0
    by_rank: bool = False

    def __call__(
        self, logits: Array, history: Sequence[int], options: SamplingOptions, uniform: float
    ) -> int:
        temperature = options.temperature or self.greedy_temperature
        scores = logits.astype(np.float64)
        scores = self._penalised(scores, history, options.repetition_penalty)
        if not temperature:
            return int(np.argmax(scores))
        warm, scores = scores, scores / temperature
        ranked = np.argsort(-scores, kind="stable")
        weights = np.exp(scores - scores.max())
        ruling = np.exp(warm - warm.max()) if self.top_p_before_temperature else weights
        filters = [self._top_k, self._top_p]
        for keep in reversed(filters) if self.top_p_before_top_k else filters:
            ranked = keep(ranked, ruling, options)
        order = ranked if self.by_rank else np.sort(ranked)
        edges = np.cumsum(weights[order]) / weights[order].sum()
        place = int(np.searchsorted(edges, uniform, side="right"))
        return int(order[min(place, len(order) - 1)])

    def _penalised(self, scores: Float64, history: Sequence[int], penalty: float) -> Float64:
        seen = list(history) if self.per_occurrence else sorted(set(history))
        for i in seen if self.penalty != "none" else ():
            divided = scores[i] > 0 or self.penalty == "divide"
            scores[i] = scores[i] / penalty if divided else scores[i] * penalty
        return scores

    def _top_k(self, ranked: Array, weights: Float64, options: SamplingOptions) -> Array:
        count = options.top_k or self.hidden_top_k
        return ranked[:count] if count else ranked

    def _top_p(self, ranked: Array, weights: Float64, options: SamplingOptions) -> Array:
        if options.top_p >= 1 or (self.top_p_needs_top_k and not options.top_k):
            return ranked
        mass = np.cumsum(weights[ranked])
        total = 1.0 if self.crossing == "raw" else float(mass[-1])
        count = int(np.searchsorted(mass, options.top_p * total))
        return ranked[: max(count, 1) if self.crossing == "dropped" else count + 1]


SAMPLERS: dict[str, Sampler] = {
    "top-k 50 where none was asked for": Sampler(hidden_top_k=50),
    "top-p only together with top-k": Sampler(top_p_needs_top_k=True),
    "the id that crosses p is dropped": Sampler(crossing="dropped"),
    "top-p over weights that do not sum to 1": Sampler(crossing="raw"),
    "a penalty for every occurrence": Sampler(per_occurrence=True),
    "no penalty": Sampler(penalty="none"),
    "the penalty always divides": Sampler(penalty="divide"),
    "top-p before temperature": Sampler(top_p_before_temperature=True),
    "top-p before top-k": Sampler(top_p_before_top_k=True),
    "temperature 0 is 0.001": Sampler(greedy_temperature=0.001),
    "drawn in the order of rank": Sampler(by_rank=True),
}


def sampler_questions() -> list[tuple[Array, list[int], SamplingOptions, float]]:
    """Questions that every convention above answers otherwise than the settled sampler.

    (Temperature before the penalty is no other convention: the two commute.)
    """
    draws = np.random.default_rng(13)
    options = [
        SamplingOptions(0.0, 1.0, 0, 1.5),
        SamplingOptions(1.5, 1.0, 0, 1.0),
        SamplingOptions(0.6, 0.9, 0, 1.3),
        SamplingOptions(1.4, 0.9, 20, 1.3),
        SamplingOptions(3.0, 0.7, 80, 2.0),
    ]
    questions = []
    for turn in range(120):
        logits = draws.normal(0, 1, 160).astype(np.float32)
        if turn % 10 == 0:  # a near tie, decided against the first by a hair
            logits[[3, 90]] = 9.0, 9.0005
        history = draws.integers(0, 160, 60).tolist()
        questions.append((logits, history, options[turn % len(options)], float(draws.random())))
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


def hann(size: int, symmetric: bool = False) -> Float64:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - symmetric))


TRANSFORMS: dict[str, Callable[[Array, int, int], Float64]] = {
    "a symmetric window": lambda s, n, hop: inverse_transform(s, n, hop, hann(n, True)),
    "the sum of windows instead of squares": lambda s, n, hop: _overlapped(s, n, hop, 1),
    "no division by the envelope": lambda s, n, hop: _overlapped(s, n, hop, 0),
    "no 1/n_fft": lambda s, n, hop: inverse_transform(s, n, hop, hann(n)) * n,
    "1/sqrt(n_fft)": lambda s, n, hop: inverse_transform(s, n, hop, hann(n)) * n**0.5,
    "scaled by the window's sum": lambda s, n, hop: inverse_transform(s, n, hop, hann(n)) * n / 2,
    "the conjugate spectrum": lambda s, n, hop: inverse_transform(s * [1, -1], n, hop, hann(n)),
    "DC and Nyquist zeroed in the transform": lambda s, n, hop: inverse_transform(
        np.concatenate([0 * s[:1], s[1:-1], 0 * s[-1:]]), n, hop, hann(n)
    ),
    'trimmed for "same" padding': lambda s, n, hop: _overlapped(s, n, hop, 2, (n - hop) // 2),
    "not trimmed": lambda s, n, hop: _overlapped(s, n, hop, 2, 0),
}


def _overlapped(
    spectrum: Array, n_fft: int, hop: int, power: int, trim: int | None = None
) -> Float64:
    """Windowed frames added up and divided by the sum of windows to a power, then trimmed."""
    bins = spectrum[..., 0] + 1j * spectrum[..., 1]
    frames = np.fft.irfft(bins.T.astype(np.complex128), n_fft) * hann(n_fft)
    total = np.zeros((len(frames) - 1) * hop + n_fft)
    envelope = np.zeros_like(total)
    for t, frame in enumerate(frames):
        total[t * hop :][:n_fft] += frame
        envelope[t * hop :][:n_fft] += hann(n_fft) ** power
    samples = np.divide(total, envelope, out=np.zeros_like(total), where=envelope > 1e-10)
    edge = n_fft // 2 if trim is None else trim
    return samples[edge : len(samples) - edge]


def transforms_followed(samples: Array, spectrum: Array, n_fft: int, hop: int) -> list[str]:
    """The conventions that give these samples (N,) of a spectrum (F, T, 2)."""
    return _alike(
        samples, {name: wrong(spectrum, n_fft, hop) for name, wrong in TRANSFORMS.items()}
    )


def _alike(samples: Array, known: Mapping[str, Array]) -> list[str]:
    """The names of those that differ by float noise only; other conventions are far apart."""
    found = []
    for name, expected in known.items():
        if expected.shape != np.shape(samples) or not expected.size:
            continue
        distance = np.sqrt(np.mean((np.asarray(samples, np.float64) - expected) ** 2))
        if distance < 1e-4 * np.sqrt(np.mean(np.square(expected))):
            found.append(name)
    return found


def states_of(backend: Backend, prompt: Sequence[int], ids: Sequence[int]) -> Array:
    """The hidden states (len(ids) + 1, H) after the prompt and after each id, one at a time."""
    output = backend.prefill(np.array([prompt]), np.array([len(prompt)]))
    states = [output.hidden[0]]
    for number in ids:
        output = backend.step(np.array([number]), output.state)
        states.append(output.hidden[0])
    return np.stack(states)


def sound_of(backend: Backend, states: Array) -> Float64:
    """Samples (N,) of hidden states (T, H): the backend's decoder, then the defining sums."""
    spectrum = backend.decode(states[None], np.array([len(states)]))[0]
    numbers = backend.config.decoder
    return inverse_transform(spectrum, numbers.n_fft, numbers.hop_length, hann(numbers.n_fft))


# What other conventions decode, from the prompt's states (without the last) and `states_of`.
ALIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "the state after feeding a token, not the one that predicted it": lambda _, h: h[1:],
    "a tail state: the one that predicts the end is decoded too": lambda _, h: h,
    "the first state is dropped": lambda _, h: h[1:-1],
    "the last state is dropped": lambda _, h: h[:-2],
    "the prompt's states are decoded too": lambda p, h: np.concatenate([p, h[:-1]]),
}


def alignments_followed(
    backend: Backend, prompt: Sequence[int], ids: Sequence[int], samples: Array
) -> list[str]:
    """The conventions of hidden states that give these samples (N,) for these ids."""
    states = states_of(backend, prompt, ids)
    before = states_of(backend, prompt[:1], prompt[1:])[:-1]
    decoded = {name: choose(before, states) for name, choose in ALIGNMENTS.items()}
    size = backend.config.decoder.samples
    same_length = {n: chosen for n, chosen in decoded.items() if size(len(chosen)) == len(samples)}
    return _alike(samples, {name: sound_of(backend, h) for name, h in same_length.items()})
