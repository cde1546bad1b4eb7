"""The suite in another Python environment, which need not have this package."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import conformance
import soprano

_NEEDED = ("pytest", "hypothesis", "scipy", "numpy", "click", "safetensors", "tokenizers")
_ASK = f"""
from importlib.metadata import entry_points
from importlib.util import find_spec
print(*[name for name in {_NEEDED!r} if find_spec(name) is None])
print(any(point.value == "conformance.entry_point" for point in entry_points(group="pytest11")))
"""


class UnusableError(Exception):
    """An environment in which the suite cannot run."""


@contextmanager
def command_of(python: Path) -> Iterator[list[str]]:
    """The beginning of a command that runs pytest with the suite in another environment.

    Where the environment does not have this package, it is given this one's modules.

    Raises:
        UnusableError: the environment lacks a library that the suite needs.
    """
    try:
        answer = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnusableError(f"{python} does not run: {error}") from None
    missing, installed = answer.stdout.splitlines()
    if missing:
        raise UnusableError(
            f"{python} lacks {', '.join(missing.split())}: install them there with pip"
        )
    # The path without links resolved: a virtual environment's interpreter is a link.
    command = [os.path.abspath(python), "-m", "pytest"]
    if installed == "True":
        yield command
        return
    with TemporaryDirectory() as folder:
        for module in (conformance, soprano):
            package = Path(str(module.__file__)).parent
            (Path(folder) / package.name).symlink_to(package)
        fixtures = Path(str(conformance.__file__)).parent.parent / "fixtures"
        if fixtures.is_dir():
            (Path(folder) / "fixtures").symlink_to(fixtures)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *([before] if before else [])])
        try:
            yield [*command, "-p", "conformance.entry_point"]
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before
