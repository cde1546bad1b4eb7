"""Samples -> the bytes of a WAV or FLAC file, in chunks."""

from __future__ import annotations

import errno
import importlib
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from soprano.errors import MissingExtraError
from soprano.regular_files import resolved

_SUFFIXES = {"": "wav", ".wav": "wav", ".wave": "wav", ".flac": "flac"}
CONTAINERS = ("wav", "flac")

_BLOCK = 1 << 16  # samples converted at a time, so that long audio is not held twice
_UNKNOWN = 2**32 - 1  # size in the header of a pipe: readers take it as "until the end"


def container_of(path: str | Path) -> str:
    """The container for a file name's suffix; WAV if it has none."""
    try:
        return _SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        raise ValueError(f"{path}: audio is written to .wav or .flac files") from None


def to_int16(samples: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """16-bit samples: 1 becomes 32767, and louder samples are clipped.

    Raises:
        ValueError: the samples contain NaN or Inf.
    """
    values = np.asarray(samples, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("samples contain NaN or Inf")
    scaled = np.rint(values * 32767)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def _blocks(samples: npt.ArrayLike) -> Iterator[npt.NDArray[np.int16]]:
    values = np.asarray(samples)
    if values.ndim != 1:
        raise ValueError(f"samples must have shape (N,), got {values.shape}")
    for start in range(0, len(values), _BLOCK):
        yield to_int16(values[start : start + _BLOCK])


class Writer(Protocol):
    """Writes mono samples (N,) chunk by chunk."""

    def write(self, samples: npt.NDArray[np.floating]) -> None: ...

    def close(self) -> None:
        """Complete the audio; the file stays open."""
        ...


class WavWriter:
    """Mono 16-bit PCM in a RIFF container.

    Args:
        file: any binary file, also a pipe.
        sample_rate: samples per second.
        count: the number of samples that will be written. Without it, `close` writes the sizes if
            the file can seek; in a pipe they are the largest possible.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, count: int | None = None) -> None:
        self._file, self._rate = file, sample_rate
        self._start = file.tell() if count is None and file.seekable() else None
        self._written = 0
        file.write(_wav_header(sample_rate, _UNKNOWN if count is None else 2 * count))

    def write(self, samples: npt.NDArray[np.floating]) -> None:
        for block in _blocks(samples):
            self._file.write(block.astype("<i2").tobytes())
            self._written += 2 * len(block)
        self._file.flush()  # a player that reads the pipe must not wait for a full buffer

    def close(self) -> None:
        if self._start is not None:
            self._file.seek(self._start)
            self._file.write(_wav_header(self._rate, self._written))
            self._file.seek(0, os.SEEK_END)


def _wav_header(rate: int, size: int) -> bytes:
    """The RIFF header (44 bytes) of `size` bytes of mono 16-bit PCM."""
    if size > _UNKNOWN - 36 and size != _UNKNOWN:
        raise ValueError(f"a WAV file holds at most 4 GiB, got {size} bytes: write FLAC")
    riff = struct.pack("<4sI4s", b"RIFF", min(size + 36, _UNKNOWN), b"WAVE")
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return riff + fmt + struct.pack("<4sI", b"data", size)


class FlacWriter:
    """Mono 16-bit FLAC, encoded by libsndfile; it is written when the writer is closed."""

    def __init__(self, file: BinaryIO, sample_rate: int) -> None:
        import soundfile

        # libsndfile loses the errors of a file in Python, such as that of a full disk.
        self._file, self._buffer = file, BytesIO()
        self._encoder = soundfile.SoundFile(
            self._buffer, "w", sample_rate, 1, "PCM_16", format="FLAC"
        )

    def write(self, samples: npt.NDArray[np.floating]) -> None:
        for block in _blocks(samples):
            self._encoder.write(block)

    def close(self) -> None:
        self._encoder.close()
        self._file.write(self._buffer.getbuffer())


def require_container(name: str) -> None:
    """Raise an error unless the container can be written in this environment."""
    if name not in CONTAINERS:
        raise ValueError(f"container must be one of {', '.join(CONTAINERS)}, got {name!r}")
    if name == "flac":
        try:
            importlib.import_module("soundfile")
        except (ImportError, OSError) as error:  # OSError: libsndfile is missing
            raise MissingExtraError(
                f"FLAC needs soundfile: pip install 'soprano-conformance[flac]' ({error})"
            ) from None


def open_writer(
    file: BinaryIO, container: str, sample_rate: int, count: int | None = None
) -> Writer:
    """A writer of "wav" or "flac"; `count` is the number of samples, if it is known."""
    require_container(container)
    if container == "flac":
        return FlacWriter(file, sample_rate)
    return WavWriter(file, sample_rate, count)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that gets its name when it is complete.

    If writing ends in an error or an interrupt, an existing file of that name is unchanged.
    """
    target = resolved(path)
    if target.exists() and not target.is_file():  # a device or a pipe cannot be replaced
        with _named(target), target.open("wb") as device:
            yield device
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    part, file = _new_file(target)
    try:
        with _named(target), file:
            yield file
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add a file's name to errors of writing, which have none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _new_file(target: Path) -> tuple[Path, BinaryIO]:
    """A file beside the target that did not exist, under a name that nobody can foresee."""
    while True:
        part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.part")
        try:
            return part, part.open("xb")  # no symbolic link is followed
        except FileExistsError:
            continue
