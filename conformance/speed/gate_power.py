"""What the gate sees: `python -m conformance.speed.gate_power --checkout DIR --part istft`.

Plants a slowdown into one part of a copy of the tree and counts how often the gate is red and
names the part; without `--part` nothing is planted, every part is timed, and any red one counts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from conformance.speed.regression_gate import measure, tree_of

# Where each part is, and how it is called from there.
PLACES = {
    "prefill": ("soprano/backends/rows.py", "RowBackend.prefill"),
    "step": ("soprano/backends/rows.py", "RowBackend.step"),
    "decode": ("soprano/backends/rows.py", "RowBackend.decode"),
    "istft": ("soprano/istft.py", "istft"),
    "sample": ("soprano/sampling.py", "sample"),
    "first sound": ("soprano/synthesis.py", "SopranoTTS.infer_stream"),
}
# A stream is slower up to its first piece. The delay is a number of rounds: asking for the time of
# the process over and over costs more than the delay on a busy machine.
DELAY = """

def _slower(call, factor={factor}):
    from collections.abc import Generator
    from time import perf_counter

    def spin(rounds):
        for _ in range(rounds):
            pass

    def speed(rounds=100_000):
        start = perf_counter()
        spin(rounds)
        return rounds / (perf_counter() - start)

    rate = max(speed() for _ in range(5))

    def wait(start):
        spin(int((factor - 1) * (perf_counter() - start) * rate))

    def run(*arguments, **options):
        start = perf_counter()
        result = call(*arguments, **options)
        if isinstance(result, Generator):
            return stream(start, result)
        wait(start)
        return result

    def stream(start, pieces):
        first = next(pieces)
        wait(start)
        yield first
        yield from pieces

    return run


{place} = _slower({place})
"""


def plant(tree: Path, part: str, factor: float) -> None:
    """Make one part of a tree slower by a factor."""
    file, place = PLACES[part]
    with (tree / file).open("a", encoding="utf-8") as module:
        module.write(DELAY.format(factor=factor, place=place))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--backend", default="onnx_cpu")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--part", choices=sorted(PLACES), default="")
    parser.add_argument("--factor", type=float, default=1.1)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--only", action="store_true", help="time no other part (quicker)")
    options = parser.parse_args()
    found: list[bool] = []
    with tree_of(options.checkout, options.commit) as baseline, tempfile.TemporaryDirectory() as t:
        candidate = Path(t) / "tree"
        shutil.copytree(baseline, candidate)
        if options.part:
            plant(candidate, options.part, options.factor)
        only = options.part if options.only else ""
        for run in range(options.runs):
            verdicts = list(measure(baseline, candidate, options.backend, options.model, only))
            red = {verdict.part for verdict in verdicts if verdict.slower}
            found.append(options.part in red if options.part else bool(red))
            print(f"run {run}:", *verdicts, sep="\n  ", flush=True)
    planted = f"{options.part} at {options.factor}" if options.part else "nothing planted"
    print(f"{planted}: red in {sum(found)} of {len(found)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
