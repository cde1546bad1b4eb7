"""Calls in forked child processes with limits, and what became of each."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MEMORY = 12 << 30  # bytes of address space; runtimes reserve several GB
SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    `kind` is "done", "rejected" (an error that callers expect), "traceback" (any other error),
    "crash" (a signal) or "hang".
    """

    kind: str
    text: str  # result, message or signal
    stderr: str = ""


def call(
    run: Callable[[], str], expected: tuple[type[BaseException], ...], seconds: int = SECONDS
) -> Outcome:
    """Run a function in a fork of this process, which must have started no runtime."""
    with tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            _in_child(run, expected, seconds, result.fileno(), errors.fileno())
        _, status = os.waitpid(child, 0)
        for file in (result, errors):
            file.seek(0)
        stderr = errors.read().decode(errors="replace")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            hang = number in (signal.SIGALRM, signal.SIGXCPU)
            return Outcome("hang" if hang else "crash", signal.Signals(number).name, stderr)
        answer: dict[str, Any] = json.loads(result.read() or b'{"kind": "crash", "text": "exit"}')
        return Outcome(answer["kind"], answer["text"], stderr)


def _in_child(
    run: Callable[[], str],
    expected: tuple[type[BaseException], ...],
    seconds: int,
    result: int,
    errors: int,
) -> None:
    try:
        os.dup2(errors, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10 * seconds)  # of a busy machine
        try:
            answer = {"kind": "done", "text": run()}
        except expected as error:
            answer = {"kind": "rejected", "text": str(error)}
        except BaseException as error:
            answer = {"kind": "traceback", "text": f"{type(error).__name__}: {error}"[:500]}
        os.write(result, json.dumps(answer).encode())
        sys.stderr.flush()
    finally:
        os._exit(0)
