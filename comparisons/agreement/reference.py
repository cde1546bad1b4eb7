"""This project's side: the PyTorch reference on a checkpoint, and the float64 oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import prefill_one, teacher_force
from conformance.golden.packs import Floor, noise_floor
from conformance.oracle.istft import inverse_stft
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.generate import Prompt
from soprano.sampling import uniforms
from soprano.synthesis import SopranoTTS
from soprano.tokenizer import load_tokenizer

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A quantity by the oracle and by the float32 reference."""

    expected: Float64
    reference: Float32

    @property
    def floor(self) -> Floor:
        return noise_floor(self.reference, self.expected)


class Reference:
    """A checkpoint opened on the PyTorch reference."""

    def __init__(self, folder: Path) -> None:
        checkpoint = ModelFolder.open(folder)
        self.voice = SopranoTTS(folder, "pytorch")
        self.tokenizer = load_tokenizer(folder)
        self.config = self.voice.config
        self.stop = self.config.language_model.eos_token_id
        self._language_model = LanguageModelOracle(
            self.config.language_model, checkpoint.language_model_weights()
        )
        self._decoder = DecoderOracle(self.config.decoder, checkpoint.decoder_weights())

    def teacher_forced(self, prompt: list[int], ids: list[int]) -> dict[str, Measured]:
        """Logits (N, V) and hidden states (N, H) before each of N given ids."""
        expected = self._language_model(prompt + ids[:-1])
        first = prefill_one(self.voice.backend, prompt)
        outputs = [first, *teacher_force(self.voice.backend, first, [ids[:-1]])]
        return {
            name: Measured(
                values[len(prompt) - 1 :], np.concatenate([getattr(out, name) for out in outputs])
            )
            for name, values in zip(("logits", "hidden"), expected, strict=True)
        }

    def samples(self, hidden: Float32) -> Measured:
        """Samples of hidden states (T, H)."""
        expected = inverse_stft(self._decoder(hidden), self.config.decoder.istft)
        return Measured(expected, self.voice.stages.vocode(hidden))

    def generate(self, prompt: list[int], options: SamplingOptions, seed: int = 0) -> list[int]:
        """The ids of a free-running utterance, a final [STOP] included."""
        stages = self.voice.stages
        tokens = stages.generate(stages, [Prompt(prompt, uniforms(seed, 0), options, 512)])
        return [self.stop if token.id is None else token.id for token in tokens]
