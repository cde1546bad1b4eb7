"""Ratios of what was measured in turns: their median and its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """A median over rounds and its 90 % interval."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f}, {self.rounds} rounds)"


def median_interval(values: npt.NDArray[np.float64]) -> Ratio:
    """The median of one value a round, its interval by resampling the rounds."""
    generator = np.random.Generator(np.random.Philox(key=0))
    drawn = generator.choice(values, (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.05, 0.95])
    return Ratio(float(np.median(values)), float(low), float(high), len(values))
