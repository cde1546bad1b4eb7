"""Standard streams that the caller has closed, or stopped to read."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Open the standard streams that are closed, before other files take their numbers.

    Standard input is then empty, and standard error is dropped. What is written to standard
    output raises `BrokenPipeError`, as it does when the reader of a pipe has ended.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        if writer != 1:
            os.close(writer)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def drop_output() -> None:
    """Drop what is still to be written to standard output: the interpreter's end would raise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
