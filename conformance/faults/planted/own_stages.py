"""Faults of the small stages that a port may bring: audio decoder, WAV bytes, loader, options."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.faults import fault as faults
from conformance.faults.fault import fault
from conformance.faults.plant import Float32, Wrapper, as_if_contiguous
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.parametric_stages import Istft
from conformance.oracle.stage_conventions import CONVERSIONS, STUCK, Stuck, convert
from conformance.subject import Subject
from soprano.backends import Backend, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions

# Only these requirements are about the stages of `OwnStages`.
_REACH = ("AO-1", "CK-18", "DE-10", "DE-11", "DE-12", "DE-13", "DE-14", "GE-17", "GE-18", "SY-21")
AUDIO = replace(faults.AUDIO, reach=_REACH)
DECODER = replace(faults.DECODER, reach=_REACH)
FOLDER = replace(faults.FOLDER, reach=_REACH)
SYNTHESIS = replace(faults.SYNTHESIS, reach=_REACH, blame=("GE", "SY"))

Weights = dict[str, dict[str, Float32]]


class OwnStages(Wrapper):
    """A backend with small stages of its own, all of them right."""

    istft = Istft()
    conversion: Callable[[Any], npt.NDArray[np.int64]] = staticmethod(convert)
    is_stuck = Stuck()

    def __init__(self, inner: Any, model: Path) -> None:
        super().__init__(inner)
        self.folder = ModelFolder.open(model)

    def samples(self, hidden: Float32) -> Float32:
        """Samples (N,) of hidden states (T, H)."""
        spectrum = self.inner.decode(hidden[None], np.array([len(hidden)]))
        return np.asarray(self.istft(spectrum, self.config.decoder.istft)[0], np.float32)

    def decode_audio(self, hidden: Float32, lengths: Int64) -> Float32:
        rows = [self.samples(row[:length]) for row, length in zip(hidden, lengths, strict=True)]
        joined = np.zeros((len(rows), max(map(len, rows), default=0)), np.float32)
        for row, samples in zip(joined, rows, strict=True):
            row[: len(samples)] = samples
        return joined

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setparams((1, 2, sample_rate, 0, "NONE", ""))
            writer.writeframes(self.conversion(samples).astype("<i2").tobytes())
        return file.getvalue()

    def default_options(self) -> SamplingOptions:
        return self.folder.generation_defaults.sampling

    def loaded_weights(self) -> Weights:
        return {
            "language_model": self.folder.language_model_weights(),
            "decoder": self.folder.decoder_weights(),
        }


def with_own_stages(subject: Subject, stages: type[OwnStages]) -> Subject:
    """Give small stages of its own to every backend that is opened."""

    def open_backend(name: str, model: Path, *args: Any, **options: Any) -> Backend:
        opened: Any = stages(subject.open_backend(name, model, *args, **options), model)
        return opened  # type: ignore[no-any-return]

    return replace(subject, open_backend=open_backend)


@fault(DECODER, "DE-10", with_own_stages, hard=True)
class OwnAudioThroughSymmetricWindow(OwnStages):
    """The ISTFT inside the decoder has the window of filter design."""

    istft = ISTFTS["a symmetric window"]


@fault(DECODER, "DE-10 DE-11", with_own_stages)
class OwnAudioLosesItsEnd(OwnStages):
    """The last hop of an utterance is missing."""

    istft = ISTFTS["the last hop is missing"]


@fault(DECODER, "DE-12", with_own_stages)
class OwnAudioOfPadding(OwnStages):
    """The lengths are not used: what lies beyond a row is decoded too."""

    def decode_audio(self, hidden: Float32, lengths: Int64) -> Float32:
        return super().decode_audio(hidden, np.full(len(hidden), hidden.shape[1]))


@fault(DECODER, "DE-13", with_own_stages, hard=True)
class OwnAudioInBlocks(OwnStages):
    """More than 40 tokens are decoded in blocks without context."""

    def samples(self, hidden: Float32) -> Float32:
        if len(hidden) < 42:
            return super().samples(hidden)
        blocks = [hidden[start : start + 41] for start in range(0, len(hidden) - 1, 40)]
        return np.concatenate([super(OwnAudioInBlocks, self).samples(block) for block in blocks])


@fault(DECODER, "DE-14", with_own_stages, hard=True)
class OwnAudioInOneBuffer(OwnStages):
    """All results lie in one array, which the next call overwrites."""

    buffer = np.zeros(1 << 20, np.float32)

    def decode_audio(self, hidden: Float32, lengths: Int64) -> Float32:
        samples = super().decode_audio(hidden, lengths)
        own = self.buffer[: samples.size].reshape(samples.shape)
        own[...] = samples
        return own


@fault(AUDIO, "AO-12", with_own_stages, public=True)
class OwnWavTruncates(OwnStages):
    """The cast to 16 bits truncates instead of rounding."""

    conversion = staticmethod(CONVERSIONS["truncated instead of rounded"])


@fault(AUDIO, "AO-12", with_own_stages, public=True)
class OwnWavScaledBy32768(OwnStages):
    """Full scale is 32768, and what exceeds 32767 is clipped."""

    conversion = staticmethod(CONVERSIONS["scaled by 32768"])


@fault(AUDIO, "AO-11", with_own_stages, hard=True)
class OwnWavLosesASampleAtBlockBorders(OwnStages):
    """Samples are converted in blocks of 65,536, of which the last sample is lost."""

    @staticmethod
    def conversion(samples: Any) -> npt.NDArray[np.int64]:
        values = convert(samples)
        return np.delete(values, np.arange(65535, len(values) - 1, 65536))


@fault(AUDIO, "AO-11", with_own_stages)
class OwnWavOfNothingIsNoFile(OwnStages):
    """No samples give no bytes."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        return super().wav(samples, sample_rate) if len(samples) else b""


@fault(AUDIO, "AO-11", with_own_stages, hard=True)
class OwnWavOfOneBuffer(OwnStages):
    """The buffer has room for 2^20 samples, and later ones are dropped."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        return super().wav(samples[: 2**20], sample_rate)


@fault(AUDIO, "AO-11", with_own_stages, hard=True)
class OwnWavEndsBeforeItsSilence(OwnStages):
    """Zeros at the end of the samples are not written."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        return super().wav(np.trim_zeros(samples, "b"), sample_rate)


@fault(AUDIO, "AO-11", with_own_stages, hard=True)
class OwnWavShortensPauses(OwnStages):
    """Of a silence within the samples no more than half a second is written."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        index = np.arange(len(samples))
        latest = np.maximum.accumulate(np.where(samples != 0, index, 0))  # that is not silent
        end = np.flatnonzero(samples)[-1] if samples.any() else 0
        kept = (index - latest <= sample_rate // 2) | (index > end)
        return super().wav(samples[kept], sample_rate)


@fault(AUDIO, "AO-11", with_own_stages, hard=True)
class OwnWavRateOf16Bits(OwnStages):
    """The sample rate is stored in 16 bits."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        return super().wav(samples, sample_rate & 0xFFFF)


@fault(AUDIO, "AO-13", with_own_stages, hard=True)
class OwnWavOfAPointer(OwnStages):
    """The samples are read one after another from the address of the first, whatever the stride."""

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        return super().wav(as_if_contiguous(samples), sample_rate)


@fault(SYNTHESIS, "GE-17", with_own_stages, hard=True)
class OwnDetectorOfTheEnd(OwnStages):
    """Only the last 128 hidden states are kept."""

    def is_stuck(self, hidden: Float32, distance: float) -> bool:  # type: ignore[override]
        return Stuck()(hidden[-128:], distance)


@fault(SYNTHESIS, "GE-18", with_own_stages, hard=True)
class OwnDetectorOfAPointer(OwnStages):
    """Hidden states are read one after another from the address of the first."""

    def is_stuck(self, hidden: Float32, distance: float) -> bool:  # type: ignore[override]
        return Stuck()(as_if_contiguous(hidden), distance)


@fault(SYNTHESIS, "GE-17", with_own_stages, public=True)
class OwnDetectorBeginsAgain(OwnStages):
    """One large step resets the counter of small ones to 0 instead of subtracting 1."""

    is_stuck = STUCK["a large step resets the counter"]


@fault(SYNTHESIS, "SY-21", with_own_stages)
class OwnDefaultsOfTheProgram(OwnStages):
    """The options that a model folder states are not read."""

    def default_options(self) -> SamplingOptions:
        return SamplingOptions()


@fault(FOLDER, "CK-18", with_own_stages, public=True)
class OwnDecoderStaysRandom(OwnStages):
    """The decoder's file is not read, and a loader that is not strict keeps the initial values."""

    def loaded_weights(self) -> Weights:
        loaded, rng = super().loaded_weights(), np.random.default_rng(0)
        drawn = {name: rng.normal(0, 0.02, v.shape) for name, v in loaded["decoder"].items()}
        decoder = {name: values.astype(np.float32) for name, values in drawn.items()}
        return {**loaded, "decoder": decoder}


@fault(FOLDER, "CK-18", with_own_stages, hard=True)
class OwnTensorTransposed(OwnStages):
    """A square matrix is loaded transposed."""

    def loaded_weights(self) -> Weights:
        loaded = super().loaded_weights()
        for name, values in loaded["language_model"].items():
            if values.ndim == 2 and values.shape[0] == values.shape[1]:
                loaded["language_model"][name] = values.T.copy()
        return loaded
