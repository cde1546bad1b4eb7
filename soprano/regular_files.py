"""Files that are read: regular files only, and never more of one than it holds.

A named pipe or a device may block, end never, or act when it is opened. A size that a file states
may be any number, so it is compared with the file's size before memory is allocated.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegularError(OSError):
    """A path names something other than a regular file."""


class TooLargeError(OSError):
    """A file is larger than one of its kind can be."""


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file, opened for reading; symbolic links are followed.

    Raises:
        NotRegularError: it is a folder, a named pipe, a socket or a device.
        OSError: it cannot be opened; a loop of symbolic links too.
    """
    try:
        _require_regular(os.stat(path))  # before it is opened: devices act on that
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:  # a name with a null byte
        raise OSError(str(error)) from None
    try:
        _require_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result) -> None:
    for test, kind in _KINDS:
        if test(status.st_mode):
            raise NotRegularError(f"it is {kind}, not a regular file")


def size_of(file: BufferedReader) -> int:
    """The size of an open regular file in bytes."""
    return os.fstat(file.fileno()).st_size


def read_regular(path: str | Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        TooLargeError: it is larger.
        OSError: see `open_regular`.
    """
    with open_regular(path) as file:
        if (size := size_of(file)) > limit:
            raise TooLargeError(f"it has {size} bytes, and such a file at most {limit}")
        return file.read(limit)


def resolved(path: str | Path) -> Path:
    """The path without symbolic links; a loop of them is an `OSError`."""
    try:
        return Path(path).resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def reason(error: OSError) -> str:
    """Why a file cannot be read, without its name."""
    return error.strerror or str(error)
