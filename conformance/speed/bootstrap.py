"""A percentile bootstrap: the interval of a statistic from resampled measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000


class Interval(NamedTuple):
    value: float  # the statistic of all measurements
    low: float
    high: float


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]], count: int, level: float
) -> Interval:
    """The interval that holds a statistic of `count` measurements with probability `level`.

    `statistic` takes indices of measurements (R, count) and returns R values. The resamples are
    the same for every call with this count.
    """
    generator = np.random.Generator(np.random.Philox(key=0))
    resampled = statistic(generator.integers(0, count, (RESAMPLES, count)))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(np.arange(count)[None])[0]), float(low), float(high))


def median_interval(values: npt.NDArray[np.float64], level: float) -> Interval:
    """The median of values (N,) and its interval."""
    return bootstrap_interval(lambda i: np.median(values[i], axis=1), len(values), level)
