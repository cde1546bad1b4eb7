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
        text = describe()
        error.add_note(Input(text and f"input: {text}"))
        raise


_VARYING = ("Flaky", "FlakyFailure")  # of the library of properties


def in_own_words(error: BaseException) -> BaseException:
    """The exception of a test, without what a library of properties puts around it."""
    varying = type(error).__name__ in _VARYING
    if varying and not isinstance(error, BaseExceptionGroup):
        error = error.__cause__ or error
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if own := [note for note in getattr(error, "__notes__", ()) if isinstance(note, Input)]:
        error.__notes__ = list(filter(None, own))
    if varying:
        error.add_note("the same input passes in another run")
    return error


def message(error: BaseException) -> str:
    """The text of a failure, with its kind unless it is that of a comparison, and its notes."""
    text = str(error)
    if not isinstance(error, AssertionError) and isinstance(error, (Exception, SystemExit)):
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        text = f"{module}{kind.__name__}: {text}".removesuffix(": ")
    first, newline, rest = text.partition("\n")
    return f"{'; '.join([first, *getattr(error, '__notes__', ())])}{newline}{rest}"
