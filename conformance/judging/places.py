"""Positions and shapes in the terms of the pipeline: ids, tokens, frames, bins, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from soprano.config import DecoderConfig

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """What one axis of an array counts; indices begin at 0."""

    unit: str
    names: Sequence[str] = ()  # of the indices, where a number is not enough
    per_token: int = 0  # samples per token, on an axis of samples

    def at(self, index: int, size: int) -> str:
        """The name of an index on an axis of a size."""
        if self.names:
            return self.names[index]
        if not self.per_token:
            return f"{self.unit} {index}"
        tokens = size // self.per_token + 1  # the last one gives no samples
        return f"{self.unit} {index} (token {index // self.per_token} of {tokens})"

    def count(self, number: int) -> str:
        """A number of elements, in tokens too if they are whole tokens."""
        text = f"{number:,} {self.unit}{'s' * (number != 1)}"
        if not self.per_token or number % self.per_token:
            return text
        tokens = number // self.per_token
        return f"{tokens} token{'s' * (tokens != 1)} ({text})"


class Places(Protocol):
    """Names the positions of an array."""

    def at(self, where: Shape, shape: Shape) -> str:
        """The name of a position, or of a row (an index of the first axes only)."""
        ...

    def misfit(self, actual: Shape, wanted: Shape) -> str:
        """What is missing or too many in a shape that is not the wanted one."""
        ...


@dataclass(frozen=True)
class Axes:
    """An array with one meaning for each axis."""

    axes: tuple[Axis, ...]
    whole: str = ""  # what the array is, such as "spectrum of 9 tokens"
    order: tuple[int, ...] = ()  # in which a position names the axes, if not from first to last

    def at(self, where: Shape, shape: Shape) -> str:
        named = [i for i in self.order or range(len(self.axes)) if i < len(where)]
        return ", ".join(
            filter(None, [self.whole, *(self.axes[i].at(where[i], shape[i]) for i in named)])
        )

    def misfit(self, actual: Shape, wanted: Shape) -> str:
        if not len(actual) == len(wanted) == len(self.axes):
            names = ", ".join(axis.unit for axis in self.axes)
            return f"shape {actual}, wanted {wanted} ({names})"
        return ", ".join(
            f"{axis.count(abs(got - want))} {'too many' if got > want else 'missing'} "
            f"({got:,} instead of {want:,})"
            for axis, got, want in zip(self.axes, actual, wanted, strict=True)
            if got != want
        )


@dataclass(frozen=True)
class Joined:
    """Arrays that were flattened and joined into one; `kept` are the indices that are left."""

    parts: Sequence[tuple[Axes, Shape]]
    kept: npt.NDArray[np.int64] | None = None

    def at(self, where: Shape, shape: Shape) -> str:
        if not where:
            return ""
        index = where[0] if self.kept is None else int(self.kept[where[0]])
        for axes, part in self.parts:
            if index < prod(part):
                position = tuple(int(i) for i in np.unravel_index(index, part))
                return axes.at(position, part)
            index -= prod(part)
        raise IndexError(f"{where} lies beyond the parts")

    def misfit(self, actual: Shape, wanted: Shape) -> str:
        fault = Axes((Axis("element"),)).misfit(actual, wanted)
        return f"{fault} among {len(self.parts)} joined arrays"


@dataclass(frozen=True)
class Unnamed:
    """An array whose axes have no meaning that is known."""

    def at(self, where: Shape, shape: Shape) -> str:
        return f"index {', '.join(map(str, where))}" if where else ""

    def misfit(self, actual: Shape, wanted: Shape) -> str:
        return f"shape {actual}, wanted {wanted}"


def spectrum(bins: int, whole: str = "") -> Axes:
    """Of a spectrum (F, T', 2) with this number of bins."""
    names = [f"bin {i}" for i in range(bins)]
    names[0], names[-1] = "bin 0 (DC)", f"bin {bins - 1} (Nyquist)"
    parts = Axis("part", ("real part", "imaginary part"))
    return Axes((Axis("bin", names), Axis("frame"), parts), whole, (1, 0, 2))


def samples(per_token: int = 0, whole: str = "") -> Axes:
    """Of samples (N,)."""
    return Axes((Axis("sample", per_token=per_token),), whole)


def words(quantity: str) -> set[str]:
    """The words of the name of a quantity."""
    return {word.strip(",:;") for word in quantity.split()}


def usual(quantity: str, shape: Shape, config: DecoderConfig | None = None) -> Places:
    """The usual meaning of an array whose quantity is named "logits", "samples" and so on."""
    named = words(quantity)
    for unit, name in (("id", "logits"), ("channel", "hidden")):
        if name in named and 1 <= len(shape) <= 3:
            rows = (Axis("row"), Axis("step"))[: len(shape) - 1]
            return Axes((*rows, Axis(unit)))
    batch = (Axis("row"),)
    if "samples" in named and 1 <= len(shape) <= 2:
        own = samples(config.samples_per_token if config else 0).axes
        return Axes((*batch, *own)[-len(shape) :])
    if "spectrum" in named and 3 <= len(shape) <= 4:
        own = spectrum(shape[-3]).axes if config and shape[-3] == config.istft.bins else ()
        own = own or (Axis("bin"), Axis("frame"), Axis("part", ("real part", "imaginary part")))
        order = (1, 0, 2) if len(shape) == 3 else (0, 2, 1, 3)
        return Axes((*batch, *own)[-len(shape) :], "", order)
    return Unnamed()
