"""Judges which hidden states the samples of an utterance were decoded from, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import hidden_states
from conformance.judging.compare import Limit, floats
from conformance.judging.judge import Judge
from conformance.judging.vectors import Vectors
from conformance.oracle.istft import inverse_stft
from conformance.oracle.utterance_conventions import ALIGNMENTS, Utterance
from soprano.stages import Stages

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
LEAST = 1e-4  # relative RMS difference of samples that are called equal


def judge_alignment(
    judge: Judge,
    stages: Stages,
    vectors: Vectors,
    prompt: Sequence[int],
    ids: Sequence[int],
    samples: Float32,
) -> None:
    """Samples are those of the states that predicted the ids, and of no other known alignment."""
    __tracebackhide__ = True
    hidden = hidden_states(stages.language_model, prompt, ids)
    judge_samples(judge, stages, vectors, prompt, hidden, samples)


def judge_samples(
    judge: Judge,
    stages: Stages,
    vectors: Vectors,
    prompt: Sequence[int],
    hidden: Float32,
    samples: Float32,
    *,
    name: str = "samples",
    explain: Callable[[Utterance], list[str]] = Utterance.followed,
) -> None:
    """As `judge_alignment`, from the states (T + 1, H) that predict each id and the end.

    `explain` names the conventions that wrong samples follow.
    """
    __tracebackhide__ = True
    expected, limit = defined_samples(stages, hidden[:-1]), vectors.own_limit("samples")
    followed: list[str] = []
    if not _equal(samples, expected, limit):
        before = hidden_states(stages.language_model, prompt[:1], prompt[1:])[:-1]
        followed = explain(Utterance(stages, before, hidden, samples, tolerance(limit, samples)))
    with judge.together():
        for convention in (*ALIGNMENTS, *followed):
            judge.not_following(convention, followed)
        if len(expected):
            judge.waveform(name, samples, expected, limit)
        else:
            judge.shape(name, samples, expected.shape)


def tolerance(limit: Limit, samples: Float32) -> float:
    """The relative RMS difference of equal samples."""
    size = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    return max(LEAST, 2 * limit.rms / size) if size else LEAST


def _equal(samples: Float32, expected: Floats, limit: Limit) -> bool:
    if not len(expected):
        return not len(samples)
    return floats("samples", samples, expected, limit).fault is None


def defined_samples(stages: Stages, hidden: Float32) -> Floats:
    """Samples (N,) of hidden states (T, H): the decoder, then the inverse STFT by definition."""
    if stages.decode_audio is not None or not len(hidden):
        return stages.vocode(hidden).astype(np.float64)
    spectrum = stages.decode(hidden[None], np.array([len(hidden)]))[0]
    return inverse_stft(spectrum, stages.config.decoder.istft)
