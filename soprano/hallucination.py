"""Detects utterances that got stuck: their hidden states hardly change from step to step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The longest run of small steps in normal speech.
LONGEST_RUN = 16


def is_stuck(hidden: npt.NDArray[np.float32], distance: float) -> bool:
    """Whether hidden states (T, H) stay close to each other for too long.

    A step of an L1 distance under `distance` adds one to the run, any other subtracts one, never
    below 0. The utterance is stuck when the run exceeds 16.
    """
    run = 0
    for step in np.abs(np.diff(hidden.astype(np.float64), axis=0)).sum(axis=1):
        run = run + 1 if step < distance else max(run - 1, 0)
        if run > LONGEST_RUN:
            return True
    return False
