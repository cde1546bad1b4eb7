"""`python -m comparisons.speed --peer PYTHON`: the speed of this package beside other packages.

All speakers are processes that stay open and speak in turns, round by round.
A row is met when the 90 % interval of its median ratio ends at or below its limit, or when the
roofline measured in the same rounds leaves less than a tenth of the time (its interval too).
A backend that does not conform on the run's checkpoint is not timed.
Exit status: 0 when every row is met, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import soprano
from comparisons.speed import conform
from comparisons.speed.floors import Floors, Roofline
from comparisons.speed.measurement import RATES, Measurement, state_of_code, turns_of
from comparisons.speed.models import Models
from comparisons.speed.ratios import Ratio, median_interval
from comparisons.speed.rows import ROWS, Row, Turn
from comparisons.speed.speakers import PROCESS, Answer, Speakers
from soprano.checkpoint.folder import ModelFolder
from soprano.config import ModelConfig

NOTHING_REMAINS = 0.1
HEADER = (
    "| measure | ratio (90 % interval) | limit | | ours / theirs | left above the floor |\n"
    "|---|---:|---:|---|---:|---:|"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m comparisons.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peer", required=True, help="Python of the peers' environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--models", type=Path, help="folder to keep the checkpoint and bundles in")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program")
    parser.add_argument("--json", type=Path, help="where all answers go; a run goes on from it")
    options = parser.parse_args()
    rows = [row for row in ROWS if re.search(options.only, row.name)]
    if not rows:
        parser.error(f"no row matches {options.only!r}")
    with tempfile.TemporaryDirectory() as scratch:
        code = state_of_code(Path(soprano.__file__).parent, Path(__file__).parent)
        models = Models(options.models or Path(scratch), options.peer, code)
        config = ModelFolder.open(models.checkpoint).config
        ask = Speakers(models, config, options.threads)
        settings = {"threads": options.threads, "code": code}
        try:
            table = Table(Measurement(ask, options.json, settings), models, config)
            met = table.print(rows, options.rounds)
        finally:
            ask.close()
    print(f"{met} of {len(rows)} rows met")
    return 0 if met == len(rows) else 1


class Table:
    """The rows as they are measured, group by group of the rows that ask for the same."""

    def __init__(self, measurement: Measurement, models: Models, config: ModelConfig) -> None:
        self._measurement, self._models, self._config = measurement, models, config

    def print(self, rows: Sequence[Row], rounds: int) -> int:
        """How many rows are met."""
        met = 0
        print(HEADER, flush=True)
        for task in dict.fromkeys(row.task for row in rows):
            chosen = []
            for row in (row for row in rows if row.task == task):
                ours, wrong = self._choose(row)
                if wrong:
                    print(f"| {row.name} | not timed: {wrong} | {row.limit} | missed | | |")
                else:
                    chosen.append((row, ours))
            if chosen:
                answers = self._measurement.rounds(task, turns_of(chosen), rounds)
                met += sum(self._report(row, ours, answers) for row, ours in chosen)
        return met

    def _choose(self, row: Row) -> tuple[str, str]:
        """The quickest candidate that conforms in a first try; else what is wrong with the last."""
        sound, wrong = [], ""
        for who in row.candidates:
            found = self._measurement.verdict(who, row.task, self._judge)
            wrong = f"{who}: {found}" if found else wrong
            sound += [] if found else [who]
        if len(sound) > 1:
            once = self._measurement.once
            sound.sort(key=lambda who: self._value(row, once(who, row.task)))
        return (sound[0], "") if sound else ("", wrong)

    def _judge(self, who: str, task: str) -> str:
        return conform.verdict(self._measurement.once, self._models, who, task)

    def _report(self, row: Row, ours: str, answers: dict[Turn, list[Answer]]) -> bool:
        values = [
            np.array([self._value(row, answer) for answer in answers[turn]])
            for turn in row.turns(ours)
        ]
        ratio = median_interval(values[0] / values[1] if row.against else values[0])
        left = self._left(row, ours, answers)
        met = ratio.high <= row.limit
        proved = left is not None and left.high < NOTHING_REMAINS
        state = "met" if met else "met: at the floor" if proved else "missed"
        medians = " / ".join(f"{np.median(each):.4g}" for each in values)
        name = f"{row.name} ({ours})" if len(row.candidates) > 1 else row.name
        remains = f"{left.median:.0%} ({left.low:.0%} to {left.high:.0%})" if left else ""
        print(f"| {name} | {ratio} | {row.limit} | {state} | {medians} | {remains} |", flush=True)
        return met or proved

    def _left(self, row: Row, ours: str, answers: dict[Turn, list[Answer]]) -> Ratio | None:
        """The share of our time that the roofline of the same round does not explain."""
        if ours == PROCESS:
            return None
        precision = ours.split()[1]
        prompt = len(self._measurement.once(conform.REFERENCE, "one")["prompt"])
        floors = Floors(self._config, prompt)
        shares = []
        for answer, rates in zip(answers[ours, row.task], answers[RATES], strict=True):
            if row.measure == "peak_mb":
                shares.append(1 - floors.megabytes(precision) / answer["peak_mb"])
                continue
            roof = Roofline(**{name: rates[name] for name in ("bytes", "float32", "int8")})
            shares.append(1 - floors.seconds(row.task, precision, roof) / answer["seconds"])
        return median_interval(np.array(shares))

    def _value(self, row: Row, answer: Answer) -> float:
        if row.measure == "rtf":
            return float(answer["seconds"] * self._config.sample_rate / answer["samples"])
        return float(answer[row.measure])


if __name__ == "__main__":
    sys.exit(main())
