"""Samples -> the bytes of a WAV or FLAC file, as they come.

A file appears under its name when it is whole, and not before.
"""

from __future__ import annotations

import errno
import importlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from soprano.errors import MissingExtraError

_SUFFIXES = {"": "wav", ".wav": "wav", ".wave": "wav", ".flac": "flac"}
CONTAINERS = ("wav", "flac")

_BLOCK = 1 << 16  # samples converted at a time, so that long audio is not held twice
_UNKNOWN = 2**32 - 1  # the size of what goes on until its end, by convention of pipes


def container_of(path: str | Path) -> str:
    """The container that a file's name asks for; WAV where it has no suffix."""
    try:
        return _SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        raise ValueError(f"{path}: sound is written to .wav or .flac files") from None


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


class Writer(Protocol):
    """Takes mono samples (N,) piece by piece."""

    def write(self, samples: npt.NDArray[np.floating]) -> None: ...

    def close(self) -> None:
        """Complete what was written; the file stays open."""
        ...


class WavWriter:
    """Mono 16-bit PCM in a RIFF container.

    Args:
        file: any binary file, a pipe too.
        sample_rate: samples a second.
        count: samples that will come. Without it the sizes are filled in at the end, if the file
            can seek; a pipe's reader finds the largest sizes, and reads on until the end.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, count: int | None = None) -> None:
        self._file, self._rate = file, sample_rate
        self._start = file.tell() if count is None and file.seekable() else None
        self._written = 0
        file.write(_wav_header(sample_rate, _UNKNOWN if count is None else 2 * count))

    def write(self, samples: npt.NDArray[np.floating]) -> None:
        for start in range(0, len(samples), _BLOCK):
            values = to_int16(samples[start : start + _BLOCK])
            self._file.write(values.astype("<i2").tobytes())
            self._written += 2 * len(values)
        self._file.flush()  # a player at the other end must not wait for a full buffer

    def close(self) -> None:
        if self._start is not None:
            self._file.seek(self._start)
            self._file.write(_wav_header(self._rate, self._written))
            self._file.seek(0, os.SEEK_END)


def _wav_header(rate: int, size: int) -> bytes:
    """A RIFF header of 44 bytes before `size` bytes of mono 16-bit PCM."""
    if size > _UNKNOWN - 36 and size != _UNKNOWN:
        raise ValueError(f"a WAV file holds at most 4 GiB, got {size} bytes: write FLAC")
    whole = min(size + 36, _UNKNOWN)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", whole, b"WAVE") + form + struct.pack("<4sI", b"data", size)
    )


class FlacWriter:
    """Mono 16-bit FLAC, by libsndfile; a pipe gets it at the end."""

    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        import soundfile

        self._file = file
        self._buffer = None if file.seekable() else BytesIO()
        self._encoder = soundfile.SoundFile(
            self._buffer or file, "w", sample_rate, 1, "PCM_16", format="FLAC"
        )

    def write(self, samples: npt.NDArray[np.floating]) -> None:
        for start in range(0, len(samples), _BLOCK):
            self._encoder.write(to_int16(samples[start : start + _BLOCK]))

    def close(self) -> None:
        self._encoder.close()
        if self._buffer is not None:
            self._file.write(self._buffer.getbuffer())


def require_container(name: str) -> None:
    """An error, before anything is spoken, unless "wav" or "flac" can be written here."""
    if name not in CONTAINERS:
        raise ValueError(f"container must be one of {', '.join(CONTAINERS)}, got {name!r}")
    if name == "flac":
        try:
            importlib.import_module("soundfile")
        except (ImportError, OSError) as error:  # OSError: it comes without its library
            raise MissingExtraError(
                f"FLAC needs soundfile: pip install 'soprano-conformance[flac]' ({error})"
            ) from None


def open_writer(
    file: BinaryIO, container: str, sample_rate: int, count: int | None = None
) -> Writer:
    """A writer of "wav" or "flac"; `count` samples will come, if that is known."""
    require_container(container)
    if container == "flac":
        return FlacWriter(file, sample_rate)
    return WavWriter(file, sample_rate, count)


def write_wav(file: BinaryIO, samples: npt.ArrayLike, sample_rate: int) -> None:
    """All samples (N,) as mono 16-bit PCM in a RIFF container."""
    values = np.asarray(samples)
    if values.ndim != 1:
        raise ValueError(f"samples must be (N,), got {values.shape}")
    WavWriter(file, sample_rate, len(values)).write(values)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name once it is complete.

    If writing ends in an error or an interrupt, whatever bore the name before is still there.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # a device or a pipe: there is nothing to replace
        with target.open("wb") as file:
            yield file
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
