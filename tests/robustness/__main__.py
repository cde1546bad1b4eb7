"""`python -m tests.robustness COMMAND`: exit status 1 if a fault was found."""

from __future__ import annotations

import argparse
import sys

from . import endurance, kills, mutants, storage
from .fuzz import PARSERS, fuzz, fuzz_by_coverage


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness")
    commands = parser.add_subparsers(dest="command", required=True)
    mutated = commands.add_parser("mutants", help="run mutated models in child processes")
    mutated.add_argument("--count", type=int, default=8000)
    mutated.add_argument("--first", type=int, default=0, help="number of the first")
    mutated.add_argument("--kind", action="append", choices=mutants.KINDS)
    fuzzed = commands.add_parser("fuzz", help="parse mutated files")
    fuzzed.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    fuzzed.add_argument("--seconds", type=float, default=60, help="for all parsers together")
    fuzzed.add_argument("--count", type=int, help="the largest number of cases of a parser")
    fuzzed.add_argument("--atheris", nargs=argparse.REMAINDER, help="options of libFuzzer")
    killed = commands.add_parser("kills", help="kill exports at random instants and renames")
    killed.add_argument("--count", type=int, default=200, help="of instants")
    endured = commands.add_parser("endurance", help="measure memory, files and threads")
    endured.add_argument("--utterances", type=int, default=1000)
    endured.add_argument("--openings", type=int, default=200)
    commands.add_parser("storage", help="run commands on full and read-only disks")
    for command in (mutated, fuzzed, killed):
        command.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    outcomes: dict[str, int] = {}
    if chosen.command == "mutants":
        outcomes, faults = mutants.run(chosen.count, chosen.seed, chosen.kind, chosen.first)
    elif chosen.command == "kills":
        outcomes, faults = kills.run(chosen.count, chosen.seed)
    elif chosen.command == "endurance":
        faults = endurance.run(chosen.utterances, chosen.openings)
    elif chosen.command == "storage":
        faults = storage.run()
    else:
        names = chosen.parsers or list(PARSERS)
        if unknown := set(names) - set(PARSERS):
            parser.error(f"no parser {sorted(unknown)[0]}; there are {', '.join(PARSERS)}")
        if chosen.atheris is not None:
            fuzz_by_coverage(names[0], chosen.atheris)
        faults = fuzz(names, chosen.seconds / len(names), chosen.seed, chosen.count)
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome} {count}")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
