"""Answers of programs, measured in alternation and kept in a file, so that a run can be resumed.

Answers of another state of the code, or with another number of threads, are not used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from comparisons.speed.cases import ROUNDS, Request
from comparisons.speed.programs import MACHINE, PROCESS, Answer, Programs

RATES: Request = (MACHINE, "rates")
STEADY = 0.15  # how far the machine's rates in a round may be from their median
REPEATS = 2  # of each round, while it is not steady
_BULKY = ("ids", "prompt", "logits")


def hash_of_code(*folders: Path) -> str:
    """A hash of the code that is measured and of the code that measures."""
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


class Measurement:
    """Single answers, conformance checks, and the answers of each task's rounds."""

    def __init__(self, programs: Programs, file: Path | None, settings: dict[str, Any]) -> None:
        self._programs, self._file = programs, file
        saved = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
        empty = {"settings": settings, "checks": {}, "once": {}, "rounds": {}}
        self.document = saved if saved.get("settings") == settings else empty

    def once(self, program: str, task: str) -> Answer:
        """The answer to a task that is run once."""
        answers = self.document["once"]
        name = f"{program}, {task}"
        if name not in answers:
            log(f"{name}, once")
            answers[name] = self._programs.run(program, task)
            self.save()
        answer: Answer = answers[name]
        return answer

    def check(self, program: str, task: str, check: Callable[[str, str], str]) -> str:
        """What is wrong with a program of ours, or ""."""
        if program == PROCESS:
            return ""
        checks = self.document["checks"]
        name = f"{program}, {task if task in ('batch', 'step') else 'one'}"
        if name not in checks:
            log(f"{name}: conformance")
            checks[name] = check(program, task)
            self.save()
        fault: str = checks[name]
        return fault

    def rounds(
        self, task: str, requests: Sequence[Request], count: int
    ) -> dict[Request, list[Answer]]:
        """The answers to each request; in a round, requests follow each other in rotating order."""
        count = max(1, round(count * ROUNDS.get(task, 1)))
        saved = self.document["rounds"].setdefault(task, {})
        lists = {request: saved.setdefault(", ".join(request), []) for request in requests}
        done = min(map(len, lists.values()))
        for answers in lists.values():
            del answers[done:]
        for number in range(done, count):
            for request, answer in self._round(task, requests, number):
                lists[request].append(answer)
            self.save()
        left = REPEATS * count
        while RATES in lists and left and (unsteady := unsteady_rounds(lists[RATES])):
            for number in unsteady[:left]:
                for request, answer in self._round(task, requests, number):
                    lists[request][number] = answer
            left -= len(unsteady[:left])
            self.save()
        return lists

    def _round(
        self, task: str, requests: Sequence[Request], number: int
    ) -> Iterator[tuple[Request, Answer]]:
        shift = number % len(requests)
        for request in [*requests[shift:], *requests[:shift]]:
            answer = self._programs.run(*request)
            log(f"{task}, round {number + 1}: {request[0]} {answer['seconds']:.3f} s")
            yield request, {k: v for k, v in answer.items() if k not in _BULKY}

    def save(self) -> None:
        if self._file:
            unfinished = self._file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
            unfinished.rename(self._file)


def unsteady_rounds(rates: Sequence[Answer]) -> list[int]:
    """The rounds in which the machine was disturbed: a rate is far from the median of all."""
    unsteady = set()
    for name in ("bytes", "float32"):
        values = [answer[name] for answer in rates]
        middle = median(values)
        unsteady |= {n for n, value in enumerate(values) if abs(value / middle - 1) > STEADY}
    return sorted(unsteady)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
