"""Runs a command line: its interrupts, and every error as one line and an exit status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import click

from soprano.errors import SopranoError, one_line
from soprano.standard_streams import drop_output

INTERRUPTED = 130
WRONG_CALL = 2
# Errors of the caller: wrong arguments or unusable input.
_WRONG_CALLS = (
    SopranoError,
    ValueError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


class _Interrupts:
    """Whether the user has interrupted the process.

    A library that is being imported may turn the interrupt into an error of its own.
    """

    def __init__(self) -> None:
        self.seen = False
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)  # clean up as after Ctrl-C

    def _interrupt(self, *_: object) -> None:
        self.seen = True
        raise KeyboardInterrupt


def run(load: Callable[[], click.Command], program: str, name: str, failure: int) -> NoReturn:
    """Run a command line and exit with its status.

    An error is one line on standard error; `--traceback` before the command shows where it was
    raised.

    Args:
        load: imports what click runs.
        program: how it is called, for usage texts.
        name: the first word of each message.
        failure: the exit status of an error that is not the caller's.
    """
    interrupts = _Interrupts()
    shows = sys.argv[1:2] == ["--traceback"]
    words, status, output = sys.argv[1 + shows :], None, sys.stdout
    try:
        try:
            status = load().main(words, prog_name=program, standalone_mode=False)
        except SystemExit as end:
            if sys.stdout is not output:  # click wraps it where a pipe was closed
                raise BrokenPipeError from None
            status = end.code
        sys.stdout.flush()
    except BaseException as error:  # a panic of a library in Rust is no `Exception`
        if shows:
            traceback.print_exc()
        interrupted = interrupts.seen or isinstance(error, (KeyboardInterrupt, click.Abort))
        status = INTERRUPTED if interrupted else _report(error, program, name, failure)
        if interrupted:
            click.echo(f"{name}: interrupted", err=True)
    sys.exit(status)


def _report(error: BaseException, program: str, name: str, failure: int) -> int:
    """Write one line about an error. Returns the exit status."""
    if isinstance(error, click.ClickException):
        error.show()
        return WRONG_CALL
    if isinstance(error, BrokenPipeError):
        drop_output()
        click.echo(f"{name}: standard output is closed", err=True)
        return 1
    text = one_line(error)
    if not isinstance(error, (*_WRONG_CALLS, OSError)):
        kind = type(error).__name__
        text = one_line(f"unexpected {kind}: {text or 'no message'} ({program} --traceback ...)")
    click.echo(f"{name}: {text}", err=True)
    return WRONG_CALL if isinstance(error, _WRONG_CALLS) else failure
