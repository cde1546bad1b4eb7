"""The exceptions that this package raises."""

from __future__ import annotations

MAX_MESSAGE = 300  # characters of a message
_HEAD = 200  # of these, those before a cut: a message begins with the name of its file


def one_line(text: object, longest: int = MAX_MESSAGE) -> str:
    """A text on one line of printable characters, cut in the middle if it is longer."""
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= longest:
        return line
    head = longest * _HEAD // MAX_MESSAGE
    return f"{line[:head]} ... {line[head + 5 - longest :]}"


def shown(value: object) -> str:
    """A value that a file states, as part of a message."""
    return one_line(ascii(value) if isinstance(value, str) else repr(value), 60)


def brief(error: BaseException) -> str:
    """A library's error as the end of a message: its text, or its type if it has none."""
    return one_line(error, 120) or type(error).__name__


class SopranoError(Exception):
    """The base class of this package's exceptions.

    A message is one line of at most 300 characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class ModelError(SopranoError, ValueError):
    """A model folder is missing, incomplete, damaged or not of this family."""


class MissingExtraError(SopranoError, ImportError):
    """An optional dependency of the requested feature is not installed."""


class BackendError(SopranoError, RuntimeError):
    """A backend is unknown, cannot do what was requested, or was used against its protocol."""
