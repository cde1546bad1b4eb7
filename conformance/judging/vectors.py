"""A model's golden values together with the limits that they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from conformance.golden.inputs import Arrays
from conformance.golden.packs import Floor, Pack, relative
from conformance.judging import tolerances
from conformance.judging.compare import Limit
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
        floor = self.floors[quantity]
        return tolerances.between_own_outputs(quantity, floor, self.expected(quantity), self.config)
