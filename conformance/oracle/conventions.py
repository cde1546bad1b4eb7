"""Known wrong conventions: each is an ordinary stage, written once.

The laws compare a stage with the conventions and name those that it follows. The fault catalogue
plants the same objects in place of the right stage. Those of the sampler and of the inverse STFT
are in modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.istft import Float64, inverse_stft
from soprano.stages import Stages

Array = npt.NDArray[Any]

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


def _distance(answer: Array, expected: Array) -> float:
    """The relative RMS difference of two arrays; inf where the shapes differ."""
    if np.shape(answer) != np.shape(expected):
        return np.inf
    return float(np.sqrt(np.mean(np.square(answer - expected)) / np.mean(np.square(expected))))
