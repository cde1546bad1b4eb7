"""Known wrong conventions: each is an ordinary stage, written once.

The laws compare a stage with each convention and name the one that it follows. The fault catalogue
plants the same objects in place of the right stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.istft import Float64, inverse_stft, periodic_window
from conformance.oracle.parametric_stages import (
    Istft,
    Sampler,
    divide_only,
    draw,
    endless_envelope,
    envelope,
    from_power_of_two,
    highest,
    keep_of_256,
    keep_ties,
    keep_top_p_first,
    left_aligned_window,
    penalize_each,
    symmetric_window,
    without_edges,
)
from conformance.oracle.sampler import keep, penalize
from soprano.config import IstftConfig, SamplingOptions
from soprano.stages import Stages

Array = npt.NDArray[Any]

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
    answers = [_answer(istft, spectrum, config) for spectrum, config in questions]
    right = [inverse_stft(spectrum, config) for spectrum, config in questions]
    return [
        name
        for name, wrong in ISTFTS.items()
        if _explains([wrong(s[None].astype(float), c)[0] for s, c in questions], answers, right)
    ]


def _answer(istft: Callable[..., Array], spectrum: Array, config: IstftConfig) -> Array:
    """Samples (N,); none where the stage rejects the question, which then decides nothing."""
    try:
        return np.asarray(istft(spectrum[None], config, "bft2")[0])
    except Exception:  # whatever a port raises for a window or size that it does not support
        return np.zeros(0)


def _explains(wrong: Sequence[Array], answers: Sequence[Array], right: Sequence[Array]) -> bool:
    """Whether a convention gives the answers wherever it differs from the right samples."""
    differing = [
        (_distance(answer, one), _distance(answer, other))
        for one, answer, other in zip(wrong, answers, right, strict=True)
        if len(answer) and _distance(one, other) > 1e-6
    ]
    return bool(differing) and all(near < min(1e-4, 0.1 * far) for near, far in differing)


def _distance(answer: Array, expected: Array) -> float:
    """The relative RMS difference of two arrays; inf where the shapes differ."""
    if np.shape(answer) != np.shape(expected):
        return np.inf
    return float(np.sqrt(np.mean(np.square(answer - expected)) / np.mean(np.square(expected))))


# What a convention decodes, of two arrays of hidden states: those of the prompt's ids without the
# last one, and those that predict each generated id and the end.
ALIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "the state after feeding a token, not the one that predicted it": lambda prompt, h: h[1:],
    "a tail state: the one that predicts the end is decoded too": lambda prompt, h: h,
    "the first state is dropped": lambda prompt, h: h[1:-1],
    "the last state is dropped": lambda prompt, h: h[:-2],
    "the prompt's states are decoded too": lambda prompt, h: np.concatenate([prompt, h[:-1]]),
}


def alignments_followed(stages: Stages, prompt: Array, hidden: Array, samples: Array) -> list[str]:
    """The conventions that give these samples (N,).

    Args:
        stages: its decoder is used.
        prompt: hidden states of the prompt's ids without the last one.
        hidden: hidden states that predict each generated id and the end.
        samples: those of the utterance.
    """
    chosen = {name: choose(prompt, hidden) for name, choose in ALIGNMENTS.items()}
    return [
        name
        for name, states in chosen.items()
        if stages.config.decoder.samples(len(states)) == len(samples)
        and _distance(samples, defined_samples(stages, states)) < 1e-4
    ]


def defined_samples(stages: Stages, hidden: Array) -> Float64:
    """Samples (N,) of hidden states (T, H): the decoder, then the inverse STFT by definition."""
    spectrum = stages.decode(hidden[None], np.array([len(hidden)]))[0]
    return inverse_stft(spectrum, stages.config.decoder.istft)
