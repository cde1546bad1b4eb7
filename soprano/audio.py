"""Samples with their rate and where they came from; WAV."""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sentence:
    """One spoken piece of a text."""

    text: str  # as it was given to the model, normalised
    token_ids: list[int]
    finish_reason: str  # "stop" or "length"
    start: int  # first sample
    stop: int  # one past the last sample
    # Processing time by part; a step that several sentences share counts once, with the first.
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def range(self) -> tuple[int, int]:
        return self.start, self.stop


@dataclass(frozen=True)
class Audio:
    """Mono sound: float32 samples (N,), full scale at 1, with their rate in Hz."""

    samples: Samples
    sample_rate: int
    sentences: list[Sentence] = field(default_factory=list)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def finish_reasons(self) -> list[str]:
        return [sentence.finish_reason for sentence in self.sentences]

    def __len__(self) -> int:
        return len(self.samples)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        return np.array(self.samples, dtype=dtype, copy=copy)

    def save(self, path: str | Path) -> Path:
        """Write a 16-bit WAV file."""
        with Path(path).open("wb") as file:
            write_wav(file, self.samples, self.sample_rate)
        return Path(path)


@dataclass(frozen=True)
class AudioChunk:
    """The next samples (N,) of a stream; `finish_reason` is set on a sentence's last chunk."""

    samples: Samples
    sample_rate: int
    sentence: int
    finish_reason: str | None = None

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        return np.array(self.samples, dtype=dtype, copy=copy)


def to_int16(samples: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """16-bit samples of (N,), full scale at 1 -> 32767; louder ones are clipped, never wrapped.

    Raises:
        ValueError: the samples are not (N,), or hold NaN or Inf.
    """
    values = np.asarray(samples, np.float64)
    if values.ndim != 1:
        raise ValueError(f"samples must be (N,), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("samples hold NaN or Inf")
    scaled = np.rint(values * 32767)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def write_wav(file: BinaryIO, samples: npt.ArrayLike, sample_rate: int) -> None:
    """Mono 16-bit PCM in a RIFF container."""
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(to_int16(samples).astype("<i2").tobytes())


def read_wav(path: str | Path) -> Audio:
    """A mono 16-bit WAV file, samples scaled back to full scale 1."""
    try:
        with wave.open(str(path), "rb") as source:
            form = source.getnchannels(), source.getsampwidth()
            raw, rate = source.readframes(source.getnframes()), source.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a WAV file: {error}") from None
    if form != (1, 2):
        raise ValueError(f"{path} must be mono with 16 bits a sample")
    return Audio((np.frombuffer(raw, "<i2") / 32767).astype(np.float32), rate)
