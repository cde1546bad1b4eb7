"""The sampler and the inverse STFT under test: those of this package, or a port's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.packs import fixture_models
from soprano.backends import Backend, Capabilities
from soprano.checkpoint.folder import ModelFolder
from soprano.config import IstftConfig, SamplingOptions
from soprano.stages import Stages, in_layout

PUBLISHED = IstftConfig(2048, 512, 2048)
PUBLISHED_VOCABULARY = 8192

Array = npt.NDArray[Any]


@cache
def family() -> tuple[IstftConfig, ...]:
    """The geometries of the published models and of the fixture models, the smallest first."""
    fixtures = {ModelFolder.open(path).config.decoder.istft for path in fixture_models()}
    return tuple(sorted({PUBLISHED, *fixtures}, key=lambda config: config.n_fft))


class SamplerUnderTest:
    """`(logits, history, options, uniform) -> id`; `size` is V of the model it was opened on."""

    def __init__(self, stages: Stages, opened: Backend | None) -> None:
        owner: Any = opened or stages
        self.name = opened.name if opened else "shared"
        self.capabilities = opened.capabilities if opened else Capabilities()
        self.size: int = owner.config.language_model.vocab_size
        self._sample = owner.sample
        self._accepted: dict[int, bool] = {self.size: True}

    def __call__(
        self,
        logits: npt.ArrayLike,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        chosen: int = self._sample(logits, history, options, uniform)
        return chosen

    def nearest(self, size: int) -> int:
        """This V where the sampler accepts it, else that of its model.

        A port may be bound to the vocabulary of its model.
        """
        if size not in self._accepted:
            logits = np.zeros(size, np.float32)
            logits[-1] = 100
            options = SamplingOptions(float(self.capabilities.uniforms), 1.0, 0, 1.0)
            try:
                self._accepted[size] = self(logits, [0], options, 0.5) == size - 1
            except Exception:  # whatever a port raises
                self._accepted[size] = False
        return size if self._accepted[size] else self.size


class IstftUnderTest:
    """`(spectrum, config) -> samples` (B, N) of a spectrum (B, F, T, 2), in any declared layout.

    `geometries` are those that are judged: of the models under test, each by the port that was
    opened on it, and those of the family that the port accepts.
    """

    def __init__(self, stages: Stages, opened: Mapping[IstftConfig, Backend]) -> None:
        first = next(iter(opened.values()), None)
        self.name = first.name if first else "shared"
        self.capabilities = first.capabilities if first else Capabilities()
        self.layouts = first.capabilities.layouts if first else ("bft2", "b2ft")
        self._first: Any = first or stages
        self._opened = opened
        asked = [config for config in family() if config not in opened]
        accepted = [config for config in asked if first is None or self._accepts(config)]
        order = {*opened, *accepted, *([] if first else [stages.config.decoder.istft])}
        self.geometries = sorted(order, key=lambda config: config.n_fft)

    def __call__(self, spectrum: Array, config: IstftConfig, layout: str | None = None) -> Array:
        samples: Array = in_layout(self.in_own_layout, layout or self.layouts[0])(spectrum, config)
        return samples

    def in_own_layout(self, spectrum: Array, config: IstftConfig, layout: str) -> Array:
        """Of a spectrum in the layout that is named, passed unchanged."""
        owner: Any = self._opened.get(config, self._first)
        samples: Array = owner.istft(spectrum, config, layout)
        return samples

    def _accepts(self, config: IstftConfig) -> bool:
        """Whether a port accepts a geometry that is not its model's: the length tells."""
        spectrum = np.ones((1, config.bins, 5, 2), np.float32)
        try:
            return np.shape(self(spectrum, config)) == (1, 4 * config.hop_length)
        except Exception:  # whatever a port raises
            return False
