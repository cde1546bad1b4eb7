"""Detection of stuck utterances, whose hidden states hardly change from step to step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The longest run of small steps in normal speech.
LONGEST_RUN = 16


def is_stuck(hidden: npt.NDArray[np.float32], distance: float) -> bool:
    """Whether successive hidden states (T, H) stay close to each other for too long.

    An L1 distance under `distance` adds one to a counter, any other subtracts one, not below 0.
    The utterance is stuck when the counter exceeds 16.
    """
    count = 0
    for step in np.abs(np.diff(hidden.astype(np.float64), axis=0)).sum(axis=1):
        count = count + 1 if step < distance else max(count - 1, 0)
        if count > LONGEST_RUN:
            return True
    return False
