"""Known wrong conventions of the small stages: 16-bit samples, and what is called stuck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def convert(
    samples: npt.ArrayLike,
    scale: float = 32767.0,
    whole: Callable[[Floats], Floats] = np.rint,
    bounds: tuple[int, int] = (-32768, 32767),
) -> Ints:
    """16-bit values of samples (N,)."""
    values = whole(np.asarray(samples, np.float64) * scale)
    return np.clip(values, *bounds).astype(np.int64)


def wrapped(samples: npt.ArrayLike) -> Ints:
    values = np.rint(np.asarray(samples, np.float64) * 32767).astype(np.int64)
    return (values + 32768) % 65536 - 32768


def scaled_to_peak(samples: npt.ArrayLike) -> Ints:
    values = np.asarray(samples, np.float64)
    return convert(values / (np.abs(values).max(initial=0.0) or 1.0))


CONVERSIONS: dict[str, Callable[[npt.ArrayLike], Ints]] = {
    "truncated instead of rounded": partial(convert, whole=np.trunc),
    "rounded down": partial(convert, whole=np.floor),
    "scaled by 32768": partial(convert, scale=32768.0),
    "scaled by 32768 and truncated": partial(convert, scale=32768.0, whole=np.trunc),
    "scaled by 32768 and rounded down": partial(convert, scale=32768.0, whole=np.floor),
    "louder samples wrap around": wrapped,
    "scaled to the peak": scaled_to_peak,
    "through a soft clip": lambda samples: convert(np.tanh(samples)),
}


@dataclass(frozen=True)
class Stuck:
    """Whether hidden states (T, H) stay close to each other for too long."""

    norm: int = 1
    far: Callable[[int], int] = lambda run: max(run - 1, 0)  # the counter after a large step
    longest: int = 16
    least: bool = False  # whether a step of exactly the distance is small
    once: bool = False  # whether only the whole utterance is judged, at its end

    def __call__(self, hidden: npt.NDArray[Any], distance: float) -> bool:
        steps = np.diff(hidden.astype(np.float64), axis=0)
        run, found = 0, False
        for step in np.linalg.norm(steps, self.norm, axis=1) if len(steps) else ():
            small = step <= distance if self.least else step < distance
            run = run + 1 if small else self.far(run)
            found = run > self.longest or (found and not self.once)
        return found


STUCK: dict[str, Stuck] = {
    "a large step resets the counter": Stuck(far=lambda run: 0),
    "a large step leaves the counter": Stuck(far=lambda run: run),
    "the counter falls below 0": Stuck(far=lambda run: run - 1),
    "the Euclidean distance": Stuck(norm=2),
    "a counter of 16 is too long": Stuck(longest=15),
    "a counter of 17 is not too long": Stuck(longest=17),
    "a step of exactly the distance is small": Stuck(least=True),
    "only the counter at the end": Stuck(once=True),
}
