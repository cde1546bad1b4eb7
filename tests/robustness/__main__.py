"""`python -m tests.robustness mutants | fuzz`: exit status 1 if a fault was found."""

from __future__ import annotations

import argparse
import sys

from .fuzz import PARSERS, fuzz, fuzz_by_coverage
from .mutants import KINDS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness")
    commands = parser.add_subparsers(dest="command", required=True)
    mutants = commands.add_parser("mutants", help="run mutated models in child processes")
    mutants.add_argument("--count", type=int, default=8000)
    mutants.add_argument("--kind", action="append", choices=KINDS)
    fuzzed = commands.add_parser("fuzz", help="parse mutated files")
    fuzzed.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    fuzzed.add_argument("--seconds", type=float, default=60, help="for all parsers together")
    fuzzed.add_argument("--count", type=int, help="the largest number of cases of a parser")
    fuzzed.add_argument("--atheris", nargs=argparse.REMAINDER, help="options of libFuzzer")
    for command in (mutants, fuzzed):
        command.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.command == "mutants":
        outcomes, faults = run(chosen.count, chosen.seed, chosen.kind)
        for outcome, count in sorted(outcomes.items()):
            print(f"{outcome} {count}")
    else:
        names = chosen.parsers or list(PARSERS)
        if unknown := set(names) - set(PARSERS):
            parser.error(f"no parser {sorted(unknown)[0]}; there are {', '.join(PARSERS)}")
        if chosen.atheris is not None:
            fuzz_by_coverage(names[0], chosen.atheris)
        faults = fuzz(names, chosen.seconds / len(names), chosen.seed, chosen.count)
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
