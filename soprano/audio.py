"""Samples with their rate and where they came from."""

from __future__ import annotations

import wave
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soprano.audio_files import container_of, open_writer, whole_file

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

    def save(self, path: str | Path, container: str | None = None) -> Path:
        """Write a 16-bit WAV or FLAC file, whole or not at all.

        Args:
            path: where to; its suffix, .wav or .flac, names the container.
            container: "wav" or "flac", whatever the suffix.

        Raises:
            MissingExtraError: FLAC needs the extra [flac].
        """
        container = container or container_of(path)
        with (
            whole_file(path) as file,
            closing(open_writer(file, container, self.sample_rate, len(self.samples))) as writer,
        ):
            writer.write(self.samples)
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
