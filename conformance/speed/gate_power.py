"""Measure the power of the regression gate: how often it detects a slowdown of known size.

`python -m conformance.speed.gate_power --checkout DIR --part istft` compares a commit with itself,
one part of which is made slower, and counts the runs in which the gate fails and names the part.
Without `--part` nothing is made slower, and every failure is a false alarm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.speed.regression_gate import measure, tree_of
from soprano.bench import PARTS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--backend", default="onnx_cpu")
    parser.add_argument("--model", default="nano")
    callables = {part.name: part.callable for part in PARTS}
    parser.add_argument("--part", choices=sorted(callables))
    parser.add_argument("--factor", type=float, default=1.1)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", action="store_true", help="time no other part (quicker)")
    options = parser.parse_args()
    slow = (callables[options.part], options.factor) if options.part else None
    only = options.part if options.only else None
    detected = []
    with tree_of(options.checkout, options.commit) as tree:
        for run in range(options.runs):
            verdicts = list(measure(tree, tree, options.backend, options.model, only, slow))
            slower = {verdict.part for verdict in verdicts if verdict.slower}
            detected.append(options.part in slower if options.part else bool(slower))
            print(f"run {run}:", *verdicts, sep="\n  ", flush=True)
    planted = f"{options.part} at {options.factor}" if options.part else "no slowdown"
    print(f"{planted}: detected in {sum(detected)} of {len(detected)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
