"""Ratios of times that were taken in turns: their median and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """A median of ratios and its 90 % interval."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f}, {self.rounds} rounds)"


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median over rounds of ours / theirs, its interval by resampling the rounds."""
    ratios = np.asarray(ours) / np.asarray(theirs)
    generator = np.random.Generator(np.random.Philox(key=0))
    drawn = generator.choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.05, 0.95])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
