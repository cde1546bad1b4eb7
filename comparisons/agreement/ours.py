"""This project's side: the reference on a checkpoint, and the float64 oracle beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from conformance.golden.packs import Floor
from conformance.judging.compare import row_rms
from conformance.oracle.istft import inverse_transform
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from soprano.backends import open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.generate import Prompt, generate
from soprano.sampling import uniforms
from soprano.stft import istft, window
from soprano.synthesis import SopranoTTS

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A quantity by its definition and as the float32 reference has it."""

    expected: Float64
    reference: Float32

    @property
    def floor(self) -> Floor:
        """The reference's own error: the yardstick for everyone else's."""
        error = np.abs(self.reference - self.expected)
        rms = float(np.sqrt(np.mean(error**2)))
        return Floor(rms, float(error.max()), float(row_rms(error).max()))


class Ours:
    """A checkpoint opened on the PyTorch reference."""

    def __init__(self, folder: Path) -> None:
        checkpoint = ModelFolder.open(folder)
        self.config = checkpoint.config
        self.stop = self.config.language_model.eos_token_id
        self.backend = open_backend("pytorch", folder)
        self.voice = SopranoTTS.over(self.backend, folder)
        self._language_model = LanguageModelOracle(
            self.config.language_model, checkpoint.language_model_weights()
        )
        self._decoder = DecoderOracle(self.config.decoder, checkpoint.decoder_weights())

    def read(self, prompt: list[int], drawn: list[int]) -> dict[str, Measured]:
        """Logits (N, V) and hidden states (N, H) before each of the N ids drawn."""
        ids = prompt + drawn[:-1]
        expected = (values[len(prompt) - 1 :] for values in self._language_model(ids))
        output = self.backend.prefill(np.array([prompt]), np.array([len(prompt)]))
        steps = [output]
        for number in drawn[:-1]:
            output = self.backend.step(np.array([number]), output.state)
            steps.append(output)
        found = ([getattr(step, name)[0] for step in steps] for name in ("logits", "hidden"))
        return {
            name: Measured(wanted, np.stack(values))
            for name, wanted, values in zip(("logits", "hidden"), expected, found, strict=True)
        }

    def sound(self, hidden: Float32) -> Measured:
        """Samples of hidden states (T, H)."""
        numbers = self.config.decoder
        shape = window(numbers.istft)
        spectrum = self.backend.decode(hidden[None], np.array([len(hidden)]))
        return Measured(
            inverse_transform(self._decoder(hidden), numbers.n_fft, numbers.hop_length, shape),
            istft(spectrum, numbers.istft)[0].astype(np.float32),
        )

    def speak(self, prompt: list[int], options: SamplingOptions, seed: int = 0) -> list[int]:
        """The ids of a free-running utterance, a final [STOP] included."""
        tokens = generate(self.backend, [Prompt(prompt, uniforms(seed, 0), options, 512)])
        return [self.stop if token.id is None else token.id for token in tokens]
