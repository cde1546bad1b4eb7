"""Audio: samples with their rate and their sentences."""

from __future__ import annotations

import struct
import wave
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from soprano.audio_files import container_of, open_writer, whole_file
from soprano.errors import brief
from soprano.regular_files import open_regular, reason, size_of

if TYPE_CHECKING:
    from soprano.stages import Write

Samples = npt.NDArray[np.float32]

_UNKNOWN = (2**32 - 1) // 2  # samples in the header of a file that was written through a pipe


@dataclass(frozen=True)
class Sentence:
    """One sentence of a text and its range of samples."""

    text: str  # normalised, as it was tokenised
    token_ids: list[int]
    finish_reason: str  # "stop" or "length"
    start: int  # first sample
    stop: int  # one past the last sample
    # Processing time by stage. A step shared by a batch counts once, for its first sentence.
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def range(self) -> tuple[int, int]:
        return self.start, self.stop


@dataclass(frozen=True)
class Audio:
    """Mono audio: float32 samples (N,), full scale at 1, with their rate in Hz."""

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

    def save(
        self, path: str | Path, container: str | None = None, *, write: Write = open_writer
    ) -> Path:
        """Write a 16-bit WAV or FLAC file. If writing fails, an existing file is left unchanged.

        Args:
            path: the file; its suffix, .wav or .flac, selects the container.
            container: "wav" or "flac", regardless of the suffix.
            write: the writer, as in `soprano.stages.Stages`.

        Raises:
            MissingExtraError: FLAC needs the extra [flac].
        """
        container = container or container_of(path)
        with (
            whole_file(path) as file,
            closing(write(file, container, self.sample_rate, len(self.samples))) as writer,
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
    """Read a mono 16-bit WAV file; 32767 becomes 1.

    Raises:
        ValueError: the file is of another form, or is no regular file.
    """
    try:
        with open_regular(path) as file, wave.open(file, "rb") as source:
            channels, width = source.getnchannels(), source.getsampwidth()
            if (channels, width) != (1, 2):
                raise ValueError(
                    f"{path} must be mono with 16 bits per sample, "
                    f"it has {channels} channels of {8 * width}"
                )
            count, most = source.getnframes(), size_of(file) // 2
            if count > most and count != _UNKNOWN:
                raise wave.Error(f"it states {count} samples and has {size_of(file)} bytes")
            raw, rate = source.readframes(min(count, most)), source.getframerate()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from None
    except (wave.Error, EOFError, struct.error, RuntimeError) as error:
        raise ValueError(f"{path} is not a WAV file: {brief(error)}") from None
    if rate < 1 or len(raw) % 2:
        raise ValueError(f"{path} is not a WAV file: it is truncated, or its rate is {rate}")
    return Audio((np.frombuffer(raw, "<i2") / 32767).astype(np.float32), rate)
