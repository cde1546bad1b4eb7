"""GE: when hidden states that hardly change are stuck."""

import numpy as np
import pytest

NEAR, FAR = 299.0, 301.0
CASES = {
    "16 near": ([NEAR] * 16, False),
    "17 near": ([NEAR] * 17, True),
    "17 near after many far": ([FAR] * 50 + [NEAR] * 17, True),
    "16 near after many far": ([FAR] * 50 + [NEAR] * 16, False),
    "16 near, 1 far, 16 near": ([NEAR] * 16 + [FAR] + [NEAR] * 16, True),
    "16 near, 1 far, 1 near": ([NEAR] * 16 + [FAR] + [NEAR], False),
    "16 near, 1 far, 2 near": ([NEAR] * 16 + [FAR] + [NEAR] * 2, True),
    "16 near, 16 far, 16 near": ([NEAR] * 16 + [FAR] * 16 + [NEAR] * 16, False),
    "16 near, 15 far, 16 near": ([NEAR] * 16 + [FAR] * 15 + [NEAR] * 16, True),
    "near and far in turn": ([NEAR, FAR] * 100, False),
    "two near, one far": ([NEAR, NEAR, FAR] * 15, False),
    "two near, one far, more often": ([NEAR, NEAR, FAR] * 16, True),
    "far": ([FAR] * 100, False),
    "stuck, then far": ([NEAR] * 17 + [FAR] * 100, True),
    "no change": ([0.0] * 17, True),
    "exactly the distance": ([300.0] * 17, False),
    "one state": ([], False),
}


def hidden_of(steps):
    """Hidden states (T, 4) whose successive L1 distances are the steps, in two halves."""
    sums = np.cumsum([0.0, *steps])
    return np.stack([sums / 2, -sums / 2, 0 * sums, 0 * sums + 7], axis=1).astype(np.float32)


@pytest.mark.requirement("GE-13")
@pytest.mark.parametrize("case", CASES)
def test_states_that_hardly_change_for_too_long_are_stuck(judge, shared, case):
    steps, expected = CASES[case]
    judge.equal(case, bool(shared.is_stuck(hidden_of(steps), 300.0)), expected)
    scaled = shared.is_stuck(hidden_of(steps) / 4, 75.0)
    judge.equal(f"{case}, at another distance", bool(scaled), expected)


@pytest.mark.requirement("GE-13")
def test_no_hidden_states_are_not_stuck(judge, shared):
    judge.equal("T=0", bool(shared.is_stuck(np.zeros((0, 4), np.float32), 300.0)), False)
