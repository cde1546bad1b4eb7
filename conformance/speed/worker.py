"""One side of a gate: times the parts of a synthesis that it is asked for.

Run by path, with the tree to measure first on the import path and the file that says what the
parts are (`soprano/bench.py` of the candidate, for all sides).
A line in is a part's name; a line out its seconds: the quickest of a few calls.
Seconds are of processor time on one thread, which other people's work on the machine disturbs
least: a wait (sleep, input and output) is not seen here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CALLS = 5
TOKENS = 12


def main() -> None:
    tree, definitions, backend, model, core = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    sys.path.insert(0, tree)
    import soprano

    if not Path(soprano.__file__).is_relative_to(tree):
        raise SystemExit(f"measured {soprano.__file__}, wanted the package in {tree}")
    parts = _load(definitions).parts(soprano.SopranoTTS(model, backend, threads=1), TOKENS)
    print(json.dumps(list(parts)), flush=True)
    for line in sys.stdin:
        part = parts[line.strip()]
        print(json.dumps(min(part(time.process_time) for _ in range(CALLS))), flush=True)


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("definitions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
