"""A worker process with a line protocol: a line of text in, a line of JSON out.

`WorkerProcess` is the parent's side. The child runs this file by its path, so that the file must
import nothing but the standard library: the child's environment may lack this project, or hold
another package named `soprano`.

A worker is a script with a function `start(**arguments)` that returns the first answer and a
function from a request to its answer.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WorkerProcess:
    """A running worker; `first_answer` is what its `start` returned.

    Args:
        script: path of the worker's script.
        arguments: keyword arguments of its `start`, as JSON.
        python: interpreter of the worker's environment.
        environment: environment variables. None: those of this process.

    Raises:
        ChildProcessError: the process ended; the message holds its standard error.
    """

    def __init__(
        self,
        script: str | Path,
        arguments: Mapping[str, Any],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # Not a pipe: one that nobody reads would fill up and stop the worker.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            # -P: the script's folder does not go onto the import path.
            [python, "-P", __file__, str(script), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.first_answer = self._answer()

    def ask(self, request: str) -> Any:
        """The worker's answer to a request of one line."""
        assert self._process.stdin is not None
        try:
            print(request, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # the process has ended, which reading its answer reports
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.communicate()
        self._errors.seek(0)
        raise ChildProcessError(
            f"the worker {self._process.args[3]} ended with status {self._process.returncode}: "
            f"{self._errors.read().strip()}"
        )

    def close(self) -> None:
        self._process.communicate()  # closes its input, which ends it
        self._errors.close()


def _serve(script: str, arguments: str) -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # libraries print
        first_answer, answer = runpy.run_path(script)["start"](**json.loads(arguments))
        print(json.dumps(first_answer), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(line.rstrip("\n"))), file=answers, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
