"""Judges which hidden states the samples of an utterance were decoded from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import hidden_states
from conformance.judging.judge import Judge
from conformance.judging.vectors import Vectors
from conformance.oracle.conventions import ALIGNMENTS, alignments_followed, defined_samples
from soprano.stages import Stages


def judge_alignment(
    judge: Judge,
    stages: Stages,
    vectors: Vectors,
    prompt: Sequence[int],
    ids: Sequence[int],
    samples: npt.NDArray[np.float32],
) -> None:
    """Samples are those of the states that predicted the ids, and of no other known alignment."""
    __tracebackhide__ = True
    hidden = hidden_states(stages.language_model, prompt, ids)
    before = hidden_states(stages.language_model, prompt[:1], prompt[1:])[:-1]
    followed = alignments_followed(stages, before, hidden, samples)
    for name in ALIGNMENTS:
        judge.not_following(name, followed)
    limit = vectors.own_limit("samples")
    judge.close("samples", samples, defined_samples(stages, hidden[:-1]), limit)
