"""pytest in a child process: a port that ends its process leaves a report and an exit status.

The child keeps a journal; if it ends before it has reported, the parent reports from the journal.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from conformance.ports.process import stack_frames
from conformance.report.evidence import STATUS, Evidence, replay
from conformance.report.json_document import CONFORMS, verdict_of

STACK = ".stack"  # suffix of the file beside a journal for the stacks of a process that hangs
_ADOPT_ORPHANS, _SIGNAL_OF_PARENTS_DEATH = 36, 1  # options of prctl
JOURNAL_FILE = "CONFORMANCE_JOURNAL"  # the variable by which a child knows its journal
INTERRUPTED = 130  # the exit status after Ctrl-C
_FAILED, _NOTHING_JUDGED = 1, 2
_GRACE = 1.0  # seconds in which a signal that the terminal sends to both processes is handled


def supervise(command: Sequence[str]) -> int:
    """Run a command that runs pytest; its exit status, which is 0 only if its report says so.

    A status of pytest is passed on, except that an interrupt gives 130.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    _set_process_option(_ADOPT_ORPHANS, 1)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        child = subprocess.Popen(command, env=os.environ | {JOURNAL_FILE: str(journal)})
        interrupted = _wait(child)
        _end_what_is_left()
        status = _status(journal, child.returncode)
    return INTERRUPTED if interrupted else status


def _end_what_is_left() -> None:
    """End the processes that a port has started and left behind: they could change the report."""
    limit = time.monotonic() + _GRACE
    while (left := _children()) and time.monotonic() < limit:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


def _children() -> list[int]:
    """The processes whose parent is this one (on Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # After the name, which is in brackets: state and parent.
            if int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def _wait(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of the child; whether it was interrupted."""
    interrupts = 0
    with _passed_on(signal.SIGTERM, child):
        while True:
            try:
                child.wait(_GRACE if interrupts == 1 else None)
                return interrupts > 0
            except subprocess.TimeoutExpired:
                interrupts += 1
                child.send_signal(signal.SIGINT)  # the terminal did not send it to the child
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts > 2:
                    child.kill()


@contextmanager
def _passed_on(number: int, child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass a signal on to the child, which would otherwise outlive its parent."""
    before = signal.signal(number, lambda *_: child.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)


def _status(journal: Path, returned: int) -> int:
    """The exit status of a run whose process has ended with another."""
    path = journal.with_suffix(STATUS)
    if path.exists():
        number, _, folder = path.read_text(encoding="utf-8").partition("\n")
        status = int(number)
        if status == 0 and folder and verdict_of(Path(folder)) != CONFORMS:
            print(f"the report in {folder} does not state that the port conforms")
            return _FAILED
        if status or not returned:
            return status
        print(f"the process ended after the last test: {_reason(returned)}")
        return _FAILED
    evidence = replay(journal)
    if returned >= 0 and not evidence.records:
        return returned  # a wrong call, or one that runs no test
    stack = journal.with_suffix(STACK)
    return _report(evidence, _hanging(stack) or _reason(returned))


def _hanging(stack: Path) -> str:
    """Why a process has ended itself, if a test or the opening of a port took too long."""
    if not stack.exists() or not (text := stack.read_text("utf-8", "replace")):
        return ""
    limit = re.match(r"Timeout \((\d+):(\d+):(\d+)", text)
    frames = " < ".join(stack_frames(text, before="conformance"))
    hours, minutes, seconds = map(int, limit.groups()) if limit else (0, 0, 0)
    within = f"no answer within {(hours * 60 + minutes) * 60 + seconds} s"
    return f"{within}, in {frames}" if frames else within


def _reason(returned: int) -> str:
    if returned >= 0:
        return f"exit status {returned}"
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-returned, f"signal {-returned}")


def _report(evidence: Evidence, reason: str) -> int:
    """Report in place of a process that has ended."""
    from conformance.report.ci import publish
    from conformance.report.json_document import document, write
    from conformance.report.terminal import end, sections

    evidence.process_ended(reason)
    evidence.complete = evidence.collected
    if evidence.folder and evidence.records:
        write(evidence)
    print()
    if not evidence.collected:
        opening = f" while opening {evidence.opening}" if evidence.opening else ""
        print(f"ERROR: the process ended before any test{opening}: {reason}")
        return _NOTHING_JUDGED
    print(*publish(document(evidence)), sep="\n")
    for title, lines in [*sections(evidence, full=False), *end(evidence)]:
        print(f" {title} ".center(80, "="), *lines, sep="\n")
    return _FAILED


def follow_parent() -> None:
    """In the child: end if the parent is killed (on Linux), and be interrupted only once."""
    _set_process_option(_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _set_process_option(number: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(number, value)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The terminal and the parent may both send the signal: the second must not stop the report."""
    __tracebackhide__ = True  # pytest names the line that was interrupted
    signal.signal(number, signal.SIG_IGN)
    signal.default_int_handler(number, frame)
