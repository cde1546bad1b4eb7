"""A process that answers requests: one JSON object per line on its standard streams."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.ports import wire
from conformance.ports.wire import PortFailureError, WireError

SECONDS = 60.0  # for one request
OPENING_SECONDS = 120.0
LONGEST_LINE = 256 * 2**20  # bytes; the spectrum of 1,024 tokens of a published model has 90 MB


class PortError(Exception):
    """The port answered a request with an error."""


class PortProcessError(PortFailureError):
    """The process ended, did not answer in time, or sent what the protocol does not allow."""


class PortProcess:
    """A running port; any number of threads may send requests."""

    def __init__(self, command: str, seconds: float = SECONDS) -> None:
        self.command, self.seconds = command, seconds
        self.folder = Path(tempfile.mkdtemp(prefix="port-"))
        try:
            self._process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self.folder.rmdir()
            raise PortProcessError(f"{command!r} cannot be started: {error}") from None
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self.released: deque[Any] = deque()  # handles of states that are no longer needed
        self._failure = ""  # why no further answer will come
        self._errors: deque[str] = deque(maxlen=20)  # last lines of stderr
        self._sending = threading.Lock()
        self._count = 0
        self._threads = [
            threading.Thread(target=read, daemon=True)
            for read in (self._read_answers, self._read_errors)
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
            return self._result(self._next(number, method, seconds or self.seconds), method)
        finally:
            self._answers.pop(number, None)

    def stream(self, method: str, params: dict[str, Any]) -> Iterator[Any]:
        """The values of the messages `{"id", "chunk"}` before the result."""
        number = self._send(method, params)
        try:
            while "chunk" in (message := self._next(number, method, self.seconds)):
                yield message["chunk"]
            self._result(message, method)
        except GeneratorExit:
            self.notify("cancel", {"id": number})
            raise
        finally:
            self._answers.pop(number, None)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a message that has no answer."""
        with contextlib.suppress(PortProcessError):
            self._write({"method": method, "params": params})

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

    def _send(self, method: str, params: dict[str, Any]) -> int:
        if self._failure:
            raise self._error(self._failure)
        with self._sending:
            self._count += 1
            number = self._count
            self._answers[number] = queue.SimpleQueue()
        # Not at once: the garbage collector may release a state while a message is written.
        states = [self.released.popleft() for _ in range(len(self.released))]
        if states:
            self.notify("release", {"states": states})
        self._write({"id": number, "method": method, "params": wire.encode(params)})
        return number

    def _write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        try:
            with self._sending:
                assert self._process.stdin
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):
            self._threads[0].join(2)  # the reason is with the reader
            raise self._error(self._failure or "the process closed its input") from None

    def _next(self, number: int, method: str, seconds: float) -> dict[str, Any]:
        try:
            message = self._answers[number].get(timeout=seconds)
        except queue.Empty:
            self._fail(f"no answer to {method} within {seconds:.3g} s")
            message = None
        if message is None:
            raise self._error(f"{self._failure} (request: {method})")
        return message

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
                waiting = self._answers.get(message.get("id", -1))
                if waiting is None:
                    if isinstance(message.get("id"), int) and 0 < message["id"] <= self._count:
                        continue  # of a stream that was closed, or a request given up
                    raise WireError(f"an answer has the id {message.get('id')!r} of no request")
                waiting.put(message)
        except (WireError, TypeError) as error:
            self._fail(str(error))
        else:
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
        if threading.current_thread() not in self._threads:
            self._threads[1].join(0.2)  # what the process wrote before its end
        said = " | ".join(line for line in list(self._errors)[-3:] if line)
        return PortProcessError(f"{reason}; stderr: {said}" if said else reason)
