"""Hidden states that hardly move: the sign of an utterance that got stuck."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The longest run of near steps that speech makes.
LONGEST_RUN = 16


def looks_stuck(hidden: npt.NDArray[np.float32], distance: float) -> bool:
    """Whether hidden states (T, H) stay near each other for too long.

    A step nearer than `distance` (L1) lengthens the run by one, any other shortens it by one.
    """
    run = 0
    for step in np.abs(np.diff(hidden.astype(np.float64), axis=0)).sum(axis=1):
        run = run + 1 if step < distance else max(run - 1, 0)
        if run > LONGEST_RUN:
            return True
    return False
