"""A process that answers requests: one JSON object per line on its standard streams."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.ports import wire
from conformance.ports.wire import PortFailureError, WireError

LONGEST_LINE = 256 * 2**20  # bytes; the spectrum of 1,024 tokens of a published model has 90 MB
_SMALLEST = 2**15  # bytes for which a short message counts, so that their number is limited too
MOST_FAILURES = 5  # of a port that ends; one that does not answer may do so three times
MOST_MEMORY = 0.75  # of the machine's, where no limit is given
_WATCH = 0.25  # seconds between two looks at a process
_STACK = "stack"  # the file in the shared folder to which a Python port writes where it hangs


@dataclass
class Limits:
    """What a port may take; those of a run are set by its options."""

    request: float = 60.0  # seconds
    memory: float = math.inf  # MiB of resident memory
    test_ends: float = math.inf  # when the time of the running test is over (`time.monotonic`)

    @property
    def opening(self) -> float:
        return 2 * self.request

    @property
    def closing(self) -> float:
        return self.request / 6

    @property
    def test(self) -> float:
        return 10 * self.request


LIMITS = Limits()


class PortError(Exception):
    """The port answered a request with an error."""


class PortProcessError(PortFailureError):
    """The process ended, did not answer in time, or sent what the protocol does not allow."""


class PortProcess:
    """A running port; any number of threads may send requests.

    Args:
        command: the program and its arguments, as in a shell or one by one; to a program that
            `shows_stack`, the shared folder is passed as its last argument.
        seconds: the time limit of one request; None for that of the run.
    """

    def __init__(
        self, command: str | list[str], seconds: float | None = None, *, shows_stack: bool = False
    ) -> None:
        self.seconds, self._shows_stack = seconds, shows_stack
        self.folder = Path(tempfile.mkdtemp(prefix="port-"))
        try:
            words = shlex.split(command) if isinstance(command, str) else [*command]
            self._process = subprocess.Popen(
                [*words, str(self.folder)] if shows_stack else words,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self.folder.rmdir()
            raise PortProcessError(f"{command!r} cannot be started: {error}") from None
        self._answers: dict[Any, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self.released: deque[Any] = deque()  # handles of states that are no longer needed
        self._received: dict[Any, int] = {}  # bytes by request
        self._closed_streams: set[Any] = set()
        self._failure = ""  # why no further answer will come
        self.told = False  # whether a caller has got this failure
        self._errors: deque[str] = deque(maxlen=20)  # last lines of stderr
        self._sending = threading.Lock()
        self._count = 0
        self._threads = [
            threading.Thread(target=read, daemon=True)
            for read in (self._read_answers, self._read_errors, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failure(self) -> str:
        """Why the process will not answer any more; "" while it runs."""
        return self._failure

    def call(self, method: str, params: dict[str, Any], seconds: float | None = None) -> Any:
        """The result of a request.

        Raises:
            PortError: the port answered with an error.
            PortProcessError: there is no valid answer.
        """
        number = self._send(method, params)
        try:
            return self._result(self._next(number, method, seconds), method)
        finally:
            self._forget(number)

    def exchange(
        self,
        method: str,
        header: dict[str, Any],
        blobs: Sequence[Any],
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """The answer to a request of this package's own server, with the bytes of its arrays."""
        number = self._number()
        try:
            sizes = [len(blob) for blob in blobs]
            self._write({"id": number, "method": method, **header, "sizes": sizes}, blobs)
            return self._next(number, method, seconds)
        finally:
            self._forget(number)

    def stream(self, method: str, params: dict[str, Any]) -> Iterator[Any]:
        """The values of the messages `{"id", "chunk"}` before the result."""
        number = self._send(method, params)
        try:
            while "chunk" in (message := self._next(number, method, None)):
                yield message["chunk"]
            self._result(message, method)
        except GeneratorExit:
            self._closed_streams.add(number)
            self.notify("cancel", {"id": number})
            raise
        finally:
            self._forget(number)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a message that has no answer."""
        told = self.told
        with contextlib.suppress(PortProcessError):
            self._write({"method": method, "params": params})
        self.told = told

    def close(self) -> None:
        """End the process: it is asked to by the end of its input, and killed after two seconds."""
        with contextlib.suppress(OSError), self._sending:
            assert self._process.stdin
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            pass
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def take_released(self) -> list[Any]:
        """The states that are no longer needed, which the port has not been told yet."""
        # Not at once: the garbage collector may release a state while a message is written.
        taken = []
        with contextlib.suppress(IndexError):  # another thread takes them too
            while True:
                taken.append(self.released.popleft())
        return taken

    def require_running(self) -> None:
        """Raise the failure of a process that no caller has been told yet."""
        if self._failure and not self.told:
            raise self._error(f"after an answer, {self._failure}")

    def _number(self) -> int:
        if self._failure:
            raise self._error(self._failure)
        with self._sending:
            self._count += 1
            self._answers[self._count] = queue.SimpleQueue()
            return self._count

    def _forget(self, number: int) -> None:
        waiting = self._answers.pop(number, None)
        self._received.pop(number, None)
        if waiting and not waiting.empty() and waiting.get() and number not in self._closed_streams:
            self._fail(f"request {number} was answered twice")

    def _send(self, method: str, params: dict[str, Any]) -> int:
        number = self._number()
        if states := self.take_released():
            self.notify("release", {"states": states})
        self._write({"id": number, "method": method, "params": wire.encode(params)})
        return number

    def _write(self, message: dict[str, Any], blobs: Sequence[Any] = ()) -> None:
        line = json.dumps(message, allow_nan="sizes" in message).encode() + b"\n"
        try:
            with self._sending:
                assert self._process.stdin
                self._process.stdin.write(b"".join([line, *blobs]) if blobs else line)
                self._process.stdin.flush()
        except (OSError, ValueError):
            self._threads[0].join(2)  # the reason is with the reader
            raise self._error(self._failure or "the process closed its input") from None

    def _next(self, number: int, method: str, seconds: float | None) -> dict[str, Any]:
        limit = seconds or self.seconds or LIMITS.request
        rest = LIMITS.test_ends - time.monotonic()
        try:
            message = self._answers[number].get(timeout=max(0.0, min(limit, rest)))
        except queue.Empty:
            whole = f"{LIMITS.test:.3g} s of the test" if rest < limit else f"{limit:.3g} s"
            self._fail(f"no answer to {method} within {whole}{self._stack()}")
            message = None
        if message is None:
            raise self._error(f"{self._failure} (request: {method})")
        return message

    def _stack(self) -> str:
        """Where a Python port is, for a message."""
        if not self._shows_stack or not hasattr(signal, "SIGUSR1"):
            return ""
        path = self.folder / _STACK
        with contextlib.suppress(OSError):
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(2 * _WATCH)
            if frames := stack_frames(path.read_text("utf-8", "replace")):
                return f", in {' < '.join(frames)}"
        return ""

    def _result(self, message: dict[str, Any], method: str) -> Any:
        if "error" in message:
            error = message["error"]
            text = error.get("message") if isinstance(error, dict) else error
            raise PortError(str(text))
        if "result" not in message:
            self._fail("an answer has neither result nor error")
            raise self._error(f"{self._failure} (request: {method})")
        return message["result"]

    def _read_answers(self) -> None:
        assert self._process.stdout
        try:
            while line := self._process.stdout.readline(LONGEST_LINE):
                if not line.endswith(b"\n"):
                    whole = len(line) < LONGEST_LINE
                    what = "the last line has no line end" if whole else "a line is too long"
                    raise WireError(f"{what} ({len(line):,} bytes)")
                message = wire.parse(line)
                if "sizes" in message:
                    message["blobs"] = [*self._blobs(message["sizes"])]
                self._deliver(message, len(line))
        except (WireError, TypeError) as error:
            self._fail(str(error))
        else:
            self._fail(self._ending())

    def _deliver(self, message: dict[str, Any], size: int) -> None:
        """Hand an answer of some bytes to the thread that waits for it."""
        number = message.get("id")
        known = type(number) in (int, float) and 0 < number <= self._count
        waiting = self._answers.get(number) if known else None
        if waiting:
            self._received[number] = self._received.get(number, 0) + max(size, _SMALLEST)
            if self._received[number] > 2 * LONGEST_LINE:
                raise WireError(f"request {number} has too many answers, or too long ones")
            waiting.put(message)
        elif known and number not in self._closed_streams:
            raise WireError(f"request {number} was answered twice")
        elif not known:
            raise WireError(f"an answer has the id {repr(number)[:40]} of no request")

    def _blobs(self, sizes: list[int]) -> Iterator[bytes]:
        assert self._process.stdout
        if not self._shows_stack or sum(sizes) > 8 * LONGEST_LINE or min(sizes, default=0) < 0:
            raise WireError(f"sizes of arrays are wrong: {str(sizes)[:80]}")
        for size in sizes:
            data = self._process.stdout.read(size)
            if len(data) < size:
                raise WireError(f"an array has no end: {len(data):,} of {size:,} bytes")
            yield data

    def _watch(self) -> None:
        """End a process that takes too much memory, or whose streams outlive it."""
        while not self._failure and self._process.poll() is None:
            if (used := resident(self._process.pid)) > LIMITS.memory:
                self._fail(f"it used {used:,.0f} MiB of memory, more than {LIMITS.memory:,.0f}")
            time.sleep(_WATCH)
        time.sleep(4 * _WATCH)  # in which the reader takes what was written before the end
        if not self._failure:
            self._fail(self._ending())

    def _ending(self) -> str:
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "the process closed its output"
        if status < 0:
            return f"the process was ended by {signal.Signals(-status).name}"
        return f"the process ended with status {status}"

    def _read_errors(self) -> None:
        assert self._process.stderr
        for line in iter(lambda: self._process.stderr.readline(4096), b""):  # type: ignore[union-attr]
            self._errors.append(line.decode("utf-8", "replace").rstrip())

    def _fail(self, reason: str) -> None:
        """No further answer is taken: everyone who waits is told."""
        self._failure = self._failure or reason
        self._kill()
        for waiting in list(self._answers.values()):
            waiting.put(None)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)

    def _error(self, reason: str) -> PortProcessError:
        self.told = True
        if threading.current_thread() not in self._threads:
            self._threads[1].join(0.2)  # what the process wrote before its end
        said = " | ".join(line for line in list(self._errors)[-3:] if line)
        return PortProcessError(f"{reason}; stderr: {said}" if said else reason)


def resident(pid: int) -> float:
    """MiB of memory that a process holds, where the system reports it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def memory_of_the_machine() -> float:
    """MiB, or infinity where the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2**20
    except (AttributeError, ValueError, OSError):
        return math.inf


def stack_frames(text: str, before: str = "python_server") -> list[str]:
    """The innermost frames of a port in the stacks that `faulthandler` has written.

    `before` is in the path of the caller's file.
    """
    for stack in reversed(text.split("\n\n")):  # the main thread is the last
        lines = re.findall(r'File "(.*)", line (\d+) in (.*)', stack)
        inner = itertools.takewhile(lambda line: before not in line[0], lines)
        frames = [f"{name} ({Path(path).name}:{n})" for path, n, name in inner]
        if 0 < len(frames) < len(lines):  # a thread that makes a call, and is inside the port
            return frames[:3]
    return []


def _environment() -> dict[str, str]:
    """Without what tells a port which test is running, or that would reach another run."""
    own = ("CONFORMANCE_", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}
