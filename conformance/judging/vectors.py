"""A model's golden values together with the limits that they imply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.expectations import stretch
from conformance.golden.inputs import FREE_RUNS, PREFIXES, TOKENS, UTTERANCES, Arrays, free_prompt
from conformance.golden.packs import Floor, Pack, heard, relative
from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.places import Axes, Axis, Joined, Places, samples, spectrum
from conformance.judging.skips import NotDeclared
from soprano.config import ModelConfig


@dataclass(frozen=True)
class Vectors:
    """The golden pack of the model under test."""

    pack: Pack
    config: ModelConfig

    @property
    def arrays(self) -> Arrays:
        return self.pack.arrays

    @property
    def floors(self) -> dict[str, Floor]:
        return self.pack.floors

    def require_same_weights(self) -> None:
        """Skip a test of freely chosen ids where the backend rounds the weights in its own way."""
        if not self.pack.same_weights:
            raise NotDeclared("ids that differ with the rounding of the weights are not compared")

    def require_fine_class(self) -> None:
        """Skip a test of rows of outputs where the error of the class may be as large as a row."""
        if self.pack.own_floors:
            raise NotDeclared("the errors of the class are judged by PR-01 and PR-09 only")

    def expected(self, quantity: str) -> npt.NDArray[Any]:
        """The golden array of a quantity that has a noise floor."""
        if quantity == "relative spectrum":
            return relative(self.arrays["spectrum"], self.arrays["spectrum"])
        return self.arrays[quantity]

    def limit(self, quantity: str) -> Limit:
        """The limit of an output against the oracle."""
        floor = self.floors[quantity]
        return tolerances.against_oracle(quantity, floor, self.expected(quantity), self.config)

    def own_limit(self, quantity: str) -> Limit:
        """The self-consistency limit: of two outputs of one backend that must agree."""
        floor = (self.pack.own_floors or self.floors)[quantity]
        return tolerances.between_own_outputs(quantity, floor, self.expected(quantity), self.config)

    def places(self, quantity: str) -> Places:
        """What the elements of a golden array are."""
        name, kind = quantity.split()[0], quantity.split()[-1]
        if kind == "spectrum":
            return self._spectra(quantity)
        if kind == "samples":
            return self._samples(quantity)
        last = Axis("id" if kind == "logits" else "channel")
        lengths = [int(n) for n in self.arrays["prompt lengths"]]
        if name == "step":
            prompts = [f"prompt {row} ({n} ids)" for row, n in enumerate(lengths)]
            return Axes((Axis("prompt", prompts), Axis("step"), last))
        if name == "long":
            first, stop = map(int, quantity.split()[1].split("-"))
            lengths = [position + 1 for position in stretch(first, stop, kind)]
        elif name == "prefix":
            lengths = list(PREFIXES)
        elif name == "vocabulary":
            lengths = [self.arrays["vocabulary ids"].shape[1]] * len(self.arrays[quantity])
        elif name in FREE_RUNS:
            prompt = len(free_prompt(self.arrays))
            lengths = [prompt + i for i in range(len(self.arrays[quantity]))]
        rows = [f"{kind} after {n} id{'s' * (n != 1)} (row {row})" for row, n in enumerate(lengths)]
        return Axes((Axis("row", rows), last))

    def _spectra(self, quantity: str) -> Joined:
        config = self.config.decoder
        parts = [
            (spectrum(config.bins, f"spectrum of {name}"), (config.bins, config.frames(tokens), 2))
            for tokens, name in zip(TOKENS, _utterances(), strict=True)
        ]
        return Joined(parts, _kept(quantity, self.arrays["spectrum"]))

    def flat_places(
        self,
        values: npt.NDArray[Any],
        quantity: str,
        bins: slice = slice(None),
        frames: Sequence[int] | None = None,
    ) -> Joined:
        """Of a flattened spectrum (F, T', 2), which may be a part of a whole one."""
        whole = spectrum(self.config.decoder.bins)
        named = Axis("bin", whole.axes[0].names[bins])
        frame = Axis("frame", [f"frame {i}" for i in frames or ()])
        axes = Axes((named, frame, whole.axes[2]), whole.whole, whole.order)
        return Joined([(axes, values.shape)], _kept(quantity, values))

    def _samples(self, quantity: str) -> Places:
        config = self.config.decoder
        if quantity != "samples":
            return samples(config.samples_per_token)
        named = (samples(config.samples_per_token, f"samples of {name}") for name in _utterances())
        sizes = ((config.samples(tokens),) for tokens in TOKENS)
        return Joined(list(zip(named, sizes, strict=True)))


def _kept(quantity: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """The indices in a flat spectrum that are left in a relative one."""
    if quantity != "relative spectrum":
        return None
    indices: npt.NDArray[np.int64] = (2 * np.flatnonzero(heard(values))[:, None] + [0, 1]).ravel()
    return indices


def _utterances() -> Iterator[str]:
    """The decoder's inputs in words."""
    for tokens, scale in UTTERANCES:
        scaled = "" if scale == 1 else f" (hidden states times {scale:g})"
        yield f"{tokens} token{'s' * (tokens != 1)}{scaled}"
