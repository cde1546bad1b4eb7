"""GE: when hidden states that hardly move count as stuck."""

from collections.abc import Sequence

import numpy as np
import pytest

from conformance.judging.judge import Judge
from soprano.hallucination import is_stuck

NEAR, FAR = 299.0, 301.0


def walk(steps: Sequence[float]) -> np.ndarray:
    """Hidden states (T, 4) whose successive L1 distances are the steps: two channels share each."""
    places = np.cumsum([0.0, *steps])
    return np.stack([places / 2, -places / 2, 0 * places, 0 * places + 7], axis=1).astype("f4")


STUCK: dict[str, tuple[list[float], bool]] = {
    "16 near": ([NEAR] * 16, False),
    "17 near": ([NEAR] * 17, True),
    "17 near after much": ([FAR] * 50 + [NEAR] * 17, True),
    "16 near after much": ([FAR] * 50 + [NEAR] * 16, False),
    "16 near, 1 far, 16 near": ([NEAR] * 16 + [FAR] + [NEAR] * 16, True),
    "16 near, 1 far, 1 near": ([NEAR] * 16 + [FAR] + [NEAR], False),
    "16 near, 1 far, 2 near": ([NEAR] * 16 + [FAR] + [NEAR] * 2, True),
    "16 near, 16 far, 16 near": ([NEAR] * 16 + [FAR] * 16 + [NEAR] * 16, False),
    "16 near, 15 far, 16 near": ([NEAR] * 16 + [FAR] * 15 + [NEAR] * 16, True),
    "near and far in turn": ([NEAR, FAR] * 100, False),
    "two near, one far": ([NEAR, NEAR, FAR] * 15, False),
    "two near, one far for longer": ([NEAR, NEAR, FAR] * 16, True),
    "far": ([FAR] * 100, False),
    "stuck once is stuck": ([NEAR] * 17 + [FAR] * 100, True),
    "standing still": ([0.0] * 17, True),
    "exactly the distance is not under it": ([300.0] * 17, False),
    "one state": ([], False),
}


@pytest.mark.requirement("GE-13")
@pytest.mark.parametrize("case", STUCK)
def test_states_that_hardly_move_for_too_long_are_stuck(judge: Judge, case: str) -> None:
    steps, expected = STUCK[case]
    judge.equal(case, bool(is_stuck(walk(steps), 300.0)), expected)
    scaled = is_stuck(walk(steps) / 4, 75.0)  # the distance is a number of the model
    judge.equal(f"{case}, scaled", bool(scaled), expected)


@pytest.mark.requirement("GE-13")
def test_no_states_are_not_stuck(judge: Judge) -> None:
    judge.equal("T=0", bool(is_stuck(np.zeros((0, 4), np.float32), 300.0)), False)
