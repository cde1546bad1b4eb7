"""What is reported of an exception: the suite's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Input(str):
    """A note on an exception: the input of a property, the smallest for which it fails."""


@contextmanager
def stating(describe: Callable[[], str]) -> Iterator[None]:
    """Exceptions of the block carry the input as a note."""
    try:
        yield
    except Exception as error:
        if text := describe():
            error.add_note(Input(f"input: {text}"))
        raise


def message(error: BaseException) -> str:
    """The text of a failure, with its kind unless it is that of a comparison, and its input."""
    varying = type(error).__name__ in ("Flaky", "FlakyFailure")
    cause = first_cause(error)
    text = str(cause)
    if not isinstance(cause, AssertionError) and isinstance(cause, Exception):
        text = f"{type(cause).__name__}: {text}".removesuffix(": ")
    if inputs := [note for note in getattr(cause, "__notes__", ()) if isinstance(note, Input)]:
        first, newline, rest = text.partition("\n")
        text = f"{'; '.join([first, *inputs])}{newline}{rest}"
    return f"fails, and passes with the same input: {text}" if varying else text


def first_cause(error: BaseException) -> BaseException:
    """The exception of a test, without the group in which a property may raise it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def keep_own_notes(error: BaseException) -> None:
    """Remove the notes by which a library of properties explains itself."""
    for each in {id(e): e for e in (error, first_cause(error))}.values():
        if notes := getattr(each, "__notes__", None):
            each.__notes__ = [note for note in notes if isinstance(note, Input)]
