"""A model's golden values together with the limits that they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from conformance.golden.inputs import Arrays
from conformance.golden.packs import Floor, Pack
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

    def limit(self, quantity: str, expected: npt.NDArray[Any] | None = None) -> Limit:
        """The limit of an output against the oracle.

        Args:
            quantity: a name of a golden array that has a noise floor.
            expected: the expectation, where it is not the golden array itself.
        """
        if expected is None:
            expected = self.arrays[quantity]
        return tolerances.against_oracle(quantity, self.floors[quantity], expected, self.config)

    def own_limit(self, quantity: str) -> Limit:
        """The self-consistency limit: of two outputs of one backend that must agree."""
        return tolerances.between_own_outputs(
            quantity, self.floors[quantity], self.arrays[quantity], self.config
        )
