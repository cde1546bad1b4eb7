"""Answers taken in turns, round by round, kept in a file so that a run can go on.

What was measured of another state of the code, or with other threads, is not taken again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from comparisons.speed.rows import TIMES, Row, Turn
from comparisons.speed.speakers import PROCESS, ROOFLINE, Answer, Speakers

RATES: Turn = (ROOFLINE, "rates")
_BULKY = ("ids", "prompt", "logits")


def state_of_code(*folders: Path) -> str:
    """A hash of what is measured and of what measures."""
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


class Measurement:
    """What was answered: once each, before the rounds, and in the rounds of each group of rows."""

    def __init__(self, ask: Speakers, file: Path | None, settings: dict[str, Any]) -> None:
        self._ask, self._file = ask, file
        kept = json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}
        fresh = {"settings": settings, "verdicts": {}, "tries": {}, "rounds": {}}
        self.document = kept if kept.get("settings") == settings else fresh

    def once(self, who: str, task: str) -> Answer:
        """An answer that is not timed: the first, or the one remembered."""
        tries = self.document["tries"]
        name = f"{who}, {task}"
        if name not in tries:
            say(f"{name}, once")
            tries[name] = self._ask(who, task)
            self.save()
        answer: Answer = tries[name]
        return answer

    def verdict(self, who: str, task: str, judge: Callable[[str, str], str]) -> str:
        """What is wrong with a speaker of ours, or nothing."""
        verdicts = self.document["verdicts"]
        name = f"{who}, {task if task in ('batch', 'step') else 'one'}"
        if who == PROCESS:
            return ""
        if name not in verdicts:
            say(f"{name}: does it conform?")
            verdicts[name] = judge(who, task)
            self.save()
        wrong: str = verdicts[name]
        return wrong

    def rounds(self, group: str, turns: Sequence[Turn], rounds: int) -> dict[Turn, list[Answer]]:
        """The answers of each turn, those of a round taken one after the other."""
        wanted = max(1, round(rounds * TIMES.get(group, 1)))
        kept = self.document["rounds"].setdefault(group, {})
        lists = {turn: kept.setdefault(", ".join(turn), []) for turn in turns}
        done = min(map(len, lists.values()))
        for answers in lists.values():
            del answers[done:]
        for number in range(done, wanted):
            shift = number % len(turns)
            for turn in [*turns[shift:], *turns[:shift]]:
                answer = self._ask(*turn)
                lists[turn].append({k: v for k, v in answer.items() if k not in _BULKY})
                say(f"{group}, round {number + 1} of {wanted}: {turn[0]} {answer['seconds']:.3f} s")
            self.save()
        return lists

    def save(self) -> None:
        if self._file:
            unfinished = self._file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
            unfinished.rename(self._file)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def turns_of(rows: Sequence[tuple[Row, str]]) -> list[Turn]:
    """The turns of rows and who speaks for us in each, and the machine's rates beside them."""
    turns = [turn for row, ours in rows for turn in row.turns(ours)]
    return [*dict.fromkeys(turns), RATES]
