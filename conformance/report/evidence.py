"""What a run knows: a record of each selected test, and facts about each subject.

A journal keeps the same in a file, for a parent that outlives the process of the run.
"""

from __future__ import annotations

import base64
import io
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.judging.records import TestRecord

STATUS = ".status"  # suffix of the file beside a journal that holds the exit status


@dataclass(frozen=True)
class Facts:
    """What is known about a subject: a backend on a model."""

    attested: dict[str, dict[str, str]]
    stages: list[str]  # that the backend implements itself
    files: dict[str, str]  # that the backend was given or runs: relative name -> SHA-256


@dataclass
class Evidence:
    """The state of a run; the methods are its events, which a journal repeats."""

    folder: str = ""  # of the report
    records: dict[str, TestRecord] = field(default_factory=dict)  # by node, in the order of tests
    subjects: dict[str, Facts] = field(default_factory=dict)
    not_covered: dict[str, dict[str, str]] = field(default_factory=dict)  # backend, model: reason
    collected: bool = False  # before, the records stand for whole requirements
    opening: str = ""  # the backend and the model that are being opened
    running: list[str] = field(default_factory=list)  # nodes
    complete: bool = False  # the run has ended, and its verdict is known

    def judged(self) -> list[TestRecord]:
        return [record for record in self.records.values() if record.requirements]

    def begin(self, folder: str) -> None:
        self.folder = folder

    def select(self, records: list[TestRecord]) -> None:
        """What is to be judged, as far as it is known before tests are collected."""
        self.records = {record.node: replace(record, not_run=True) for record in records}

    def open(self, what: str) -> None:
        self.opening = what

    def leave_out(self, not_covered: dict[str, dict[str, str]]) -> None:
        self.not_covered = not_covered

    def collect(self, records: list[TestRecord]) -> None:
        if records:  # otherwise nothing can be judged, and the selection says what was wanted
            self.select(records)
            self.collected = True

    def start(self, node: str) -> None:
        self.running.append(node)

    def describe(self, subject: str, facts: Facts) -> None:
        self.subjects[subject] = facts

    def finish(self, record: TestRecord) -> None:
        self.records[record.node] = replace(record, not_run=False)
        self._stop(record.node)

    def crash(self, node: str, reason: str) -> None:
        """The process that ran a test has ended."""
        if known := self.records.get(node):
            message = f"process ended during this test: {reason}"
            self.records[node] = replace(known, not_run=False, verdict="error", message=message)
        self._stop(node)

    def _stop(self, node: str) -> None:
        if node in self.running:
            self.running.remove(node)

    def end(self, reason: str) -> None:
        """No further test is run."""
        for record in self.records.values():
            if record.not_run:
                record.message = reason

    def process_ended(self, reason: str) -> None:
        """The process of the run has ended: whatever ran is blamed."""
        during = self.during()
        for node in list(self.running):
            self.crash(node, reason)
        self.end(f"process ended: {reason}{during}")

    def during(self) -> str:
        """What is being done, for a message."""
        if self.running:
            return f" during {', '.join(self.running)}"
        return f" while opening {self.opening}" if self.opening else ""


class Journal:
    """Events of a run, applied to its evidence and appended to a file, if one is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.evidence = Evidence()
        self.file = path.open("a", encoding="ascii") if path else None

    def note(self, event: str, *values: Any) -> None:
        getattr(self.evidence, event)(*values)
        if self.file:
            self.file.write(encode((event, values)) + "\n")
            self.file.flush()

    def close(self, status: int) -> None:
        """The run is complete: `status` is its exit status."""
        if self.file:
            text = f"{int(status)}\n{self.evidence.folder}"
            Path(self.file.name).with_suffix(STATUS).write_text(text, encoding="utf-8")


def replay(path: Path) -> Evidence:
    """The evidence of a journal whose process may have ended at any time."""
    evidence = Evidence()
    lines = path.read_text(encoding="ascii").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if line.endswith("\n"):
            event, values = decode(line)
            getattr(evidence, event)(*values)
    return evidence


class _Writer(pickle.Pickler):
    """Writes NumPy's scalars, and text and numbers of foreign types, as those of Python."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            plain = value.item()
        elif type(value).__module__.partition(".")[0] in ("builtins", "conformance"):
            return NotImplemented
        elif isinstance(value, str):
            plain = str.__str__(value)
        elif isinstance(value, int):
            plain = int.__int__(value)
        elif isinstance(value, float):
            plain = float.__float__(value)
        else:
            return NotImplemented
        return type(plain), (plain,)


def encode(value: Any) -> str:
    """As text, which pytest's reports and pytest-xdist can carry."""
    stream = io.BytesIO()
    _Writer(stream).dump(value)
    return base64.b64encode(stream.getvalue()).decode("ascii")


_PLAIN = {("builtins", name) for name in ("bool", "int", "float", "complex", "str", "bytes")}


class _Reader(pickle.Unpickler):
    """Reads plain values and those of this package only: others could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        own = module.startswith(("conformance.", "pathlib", "datetime")) and "." not in name
        if own or (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not a value of a journal")


def decode(text: str) -> Any:
    return _Reader(io.BytesIO(base64.b64decode(text))).load()
