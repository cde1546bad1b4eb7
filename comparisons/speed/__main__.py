"""`python -m comparisons.speed --peer PYTHON`: the speed of this package beside other packages.

Every program is a process that stays open; in each round, programs run their tasks one after the
other. A case is met if the 90 % interval of its median ratio ends at or below the limit, or if the
time is at the roofline measured in the same rounds: the interval of the share above it ends below a
tenth. A backend that does not conform on the checkpoint of the run is not timed.
A round in which the machine's own rates differ from their median by more than 15 % is repeated; if
such rounds remain, a case has no verdict.
Exit status: 0 if every case is met, 1 otherwise.
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
from comparisons.speed import conformance_check
from comparisons.speed.cases import CASES, Case, Request
from comparisons.speed.measurement import RATES, Measurement, hash_of_code, unsteady_rounds
from comparisons.speed.models import Models
from comparisons.speed.programs import PROCESS, Answer, Programs
from comparisons.speed.roofline import Rates, Roofline
from conformance.speed.bootstrap import Interval, median_interval
from soprano.checkpoint.folder import ModelFolder
from soprano.config import ModelConfig

LEVEL = 0.9
AT_ROOFLINE = 0.1  # of the time
HEADER = (
    "| measure | ratio (90 % interval) | limit | | ours / theirs "
    "| above the roofline, speed in percent of it |\n"
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
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose name matches")
    parser.add_argument("--models", type=Path, help="folder to keep the checkpoint and bundles in")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program")
    parser.add_argument("--json", type=Path, help="file of all answers, from which a run resumes")
    options = parser.parse_args()
    cases = [case for case in CASES if re.search(options.only, case.name)]
    if not cases:
        parser.error(f"no case matches {options.only!r}")
    with tempfile.TemporaryDirectory() as scratch:
        code = hash_of_code(Path(soprano.__file__).parent, Path(__file__).parent)
        models = Models(options.models or Path(scratch), options.peer, code)
        config = ModelFolder.open(models.checkpoint).config
        programs = Programs(models, config, options.threads)
        settings = {"threads": options.threads, "code": code}
        try:
            table = Table(Measurement(programs, options.json, settings), models, config)
            met = table.print(cases, options.rounds)
        finally:
            programs.close()
    print(f"{met} of {len(cases)} cases met")
    return 0 if met == len(cases) else 1


class Table:
    """Measures the cases, those with the same task together, and prints a line for each."""

    def __init__(self, measurement: Measurement, models: Models, config: ModelConfig) -> None:
        self._measurement, self._models, self._config = measurement, models, config

    def print(self, cases: Sequence[Case], rounds: int) -> int:
        """Print the table; returns how many cases are met."""
        met = 0
        print(HEADER, flush=True)
        for task in dict.fromkeys(case.task for case in cases):
            chosen = []
            for case in (case for case in cases if case.task == task):
                ours, fault = self._choose(case)
                if fault:
                    print(f"| {case.name} | not timed: {fault} | {case.limit} | missed | | |")
                else:
                    chosen.append((case, ours))
            if chosen:
                requests = [request for case, ours in chosen for request in case.requests(ours)]
                requests = [*dict.fromkeys(requests), RATES]
                answers = self._measurement.rounds(task, requests, rounds)
                met += sum(self._print_case(case, ours, answers) for case, ours in chosen)
        return met

    def _choose(self, case: Case) -> tuple[str, str]:
        """The fastest candidate that conforms, and ""; else what is wrong with the last one."""
        conforming, fault = [], ""
        for program in case.candidates:
            own_fault = self._measurement.check(program, case.task, self._check)
            if own_fault:
                fault = f"{program}: {own_fault}"
            else:
                conforming.append(program)
        if len(conforming) > 1:
            once = self._measurement.once
            conforming.sort(key=lambda program: self._value(case, once(program, case.task)))
        return (conforming[0], "") if conforming else ("", fault)

    def _check(self, program: str, task: str) -> str:
        return conformance_check.check(self._measurement.once, self._models, program, task)

    def _print_case(self, case: Case, ours: str, answers: dict[Request, list[Answer]]) -> bool:
        values = [
            np.array([self._value(case, answer) for answer in answers[request]])
            for request in case.requests(ours)
        ]
        ratios = values[0] / values[1] if case.against else values[0]
        ratio = median_interval(ratios, LEVEL)
        above = self._above_roofline(case, ours, answers)
        noisy = unsteady_rounds(answers[RATES])
        met = ratio.high <= case.limit
        at_roofline = above is not None and above.high < AT_ROOFLINE
        print(
            f"| {case.name} ({ours}) " if len(case.candidates) > 1 else f"| {case.name} ",
            f" {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}, {len(ratios)} rounds) ",
            f" {case.limit} ",
            f" {_verdict(met, at_roofline, len(noisy))} ",
            f" {' / '.join(f'{np.median(each):.4g}' for each in values)} ",
            _ceiling(above),
            sep="|",
            flush=True,
        )
        return not noisy and (met or at_roofline)

    def _above_roofline(
        self, case: Case, ours: str, answers: dict[Request, list[Answer]]
    ) -> Interval | None:
        """The share of our time, or memory, above the roofline of the same round."""
        if ours == PROCESS:
            return None
        # A draft reads more, and fewer times: the roofline of its model alone is no bound.
        precision = ours.split()[1]
        if "+" in precision:
            return None
        reference = self._measurement.once(conformance_check.REFERENCE, "one")
        roofline = Roofline(self._config, len(reference["prompt"]))
        shares = []
        for answer, rates in zip(answers[ours, case.task], answers[RATES], strict=True):
            if case.measure == "peak_mb":
                shares.append(1 - roofline.megabytes(precision) / answer["peak_mb"])
                continue
            measured = Rates(rates["bytes"], rates["float32"], rates["int8"])
            shares.append(1 - roofline.seconds(case.task, precision, measured) / answer["seconds"])
        return median_interval(np.array(shares), LEVEL)

    def _value(self, case: Case, answer: Answer) -> float:
        if case.measure == "rtf":
            return float(answer["seconds"] * self._config.sample_rate / answer["samples"])
        return float(answer[case.measure])


def _ceiling(above: Interval | None) -> str:
    """The share of the time above the roofline, and the speed in percent of the roofline's."""
    if above is None:
        return "  |"
    return f" {above.value:.0%} ({above.low:.0%} to {above.high:.0%}), {1 - above.value:.0%} |"


def _verdict(met: bool, at_roofline: bool, noisy: int) -> str:
    if noisy:
        return f"no verdict: machine disturbed in {noisy} rounds"
    return "met" if met else "met: at the roofline" if at_roofline else "missed"


if __name__ == "__main__":
    sys.exit(main())
