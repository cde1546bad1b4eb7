"""`kill -9` during an export over a bundle: at random instants, and at each change of a name."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.golden.packs import fixture_models
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import sha256
from soprano.export import replace
from soprano.export.bundle import export_bundle

from .children import call

WHENS = ("before", "after")


def source() -> Path:
    return next(path for path in fixture_models() if path.name == "v11")


def tree(folder: Path) -> dict[str, str]:
    """The files of a folder with their digests."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def in_fork(run: Callable[[], object]) -> int:
    """The process id of a fork that runs a function and ends."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    return process


def wait(process: int) -> bool:
    """Whether a process was killed; any other failure is an error."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"the export failed: status {status}")
    return False


@contextmanager
def killed_at(number: int, when: str, exchange: bool) -> Iterator[None]:
    """End this process at its n-th rename, unlink or exchange, before or after it happens."""
    calls = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = change(*arguments, **options)
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counting

    for name in ("rename", "replace", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    own = replace._exchange if exchange else lambda first, second: False
    replace._exchange = counted(own)  # type: ignore[assignment]
    yield


class Trial:
    """A bundle that exports replace, which is the old one or the new one after each."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self.old, self.target, self.options = folder / "old", folder / "bundle", options
        made = call(lambda: str(export_bundle(source(), self.old, part="lm", **options)), ())
        if made.kind != "done":
            raise RuntimeError(str(made))
        self.reset()
        start = time.monotonic()
        wait(in_fork(self.export))
        self.seconds = time.monotonic() - start
        self.trees = {"old": tree(self.old), "new": tree(self.target)}
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.reset()

    def reset(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.copytree(self.old, self.target)

    def export(self) -> None:
        export_bundle(source(), self.target, part="decoder", **self.options)

    def judge(self, where: str, exchange: bool = True) -> None:
        """Count what is there after a kill, and put the old bundle back."""
        if not exchange:  # the next replacement takes the old bundle back, if it has no name
            with replace.replacing(self.target):
                pass
        found = tree(self.target) if self.target.exists() else {}
        with replace.replacing(self.target):  # which removes what is left
            pass
        names = [path.name for path in self.target.parent.iterdir()]
        state = next((name for name, own in self.trees.items() if own == found), "damaged")
        self.outcomes[state] += 1
        if state == "damaged" or sorted(names) != ["bundle", "old"]:
            self.faults.append(f"{self.options} killed {where}: {state}, {sorted(names)}")
            print(self.faults[-1], flush=True)
        ModelFolder.open(self.target).require_unchanged(weights=True)
        if state != "old":
            self.reset()

    def at_instants(self, count: int, rng: random.Random) -> None:
        """Kills at random instants of an export, from its begin to its usual end."""
        while count:
            process = in_fork(self.export)
            time.sleep(rng.random() * self.seconds)
            os.kill(process, signal.SIGKILL)
            if wait(process):
                count -= 1
                self.judge("at an instant")
            else:
                self.reset()  # it had ended before

    def at_names(self, when: str, exchange: bool) -> None:
        """A kill at each change of a name, until an export is complete."""
        number, killed = 0, True
        while killed:
            number += 1

            def run(number: int = number) -> None:
                with killed_at(number, when, exchange):
                    self.export()

            if killed := wait(in_fork(run)):
                self.judge(f"{when} change {number}, exchange: {exchange}", exchange)
        self.reset()


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """`count` kills at random instants, then one at each change of a name. Returns outcomes."""
    for runtime in ("onnx", "openvino"):  # imported once, before the forks
        importlib.import_module(f"soprano.backends.{runtime}")
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    every = ({"to": "onnx"}, {"to": "onnx", "precision": "int8"}, {"to": "openvino"})
    for place, options in enumerate(every):
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(Path(folder), options)
            share = count // len(every) + (place < count % len(every))
            trial.at_instants(share, random.Random(f"{seed} {options}"))
            outcomes.update({f"instants: {k}": v for k, v in trial.outcomes.items()})
            trial.outcomes.clear()
            for when in WHENS if options == {"to": "onnx"} else ():
                for exchange in (True, False):
                    trial.at_names(when, exchange)
            outcomes.update({f"changes of names: {k}": v for k, v in trial.outcomes.items()})
            faults += trial.faults
    return outcomes, faults
