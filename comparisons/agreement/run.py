"""Compare this project with soprano-tts 0.2.0 and with the Qwen3 of `transformers`.

    python upstream/run.py --python PATH [--part small|published|qwen3 ...]

PATH is the interpreter of an environment where soprano-tts==0.2.0 is installed.
Exit status: 0 when everything agrees and every known divergence is there, 1 otherwise, 2 when the
other program cannot be asked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import conformance  # noqa: F401 - the installed packages, before the checkout offers its own
import soprano  # noqa: F401

# The wheel comes first; the checkout adds `upstream` and `fixtures`, which no wheel carries.
sys.path.append(str(Path(__file__).parents[2]))

from comparisons.agreement.observe import PeerError
from comparisons.agreement.parts import PARTS
from comparisons.agreement.table import Table


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare with soprano-tts and transformers.")
    parser.add_argument("--python", required=True, help="interpreter that has soprano-tts 0.2.0")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this (repeatable)")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        try:
            for part in options.part or PARTS:
                PARTS[part](table, options.python, Path(name))
        except PeerError as error:
            print(f"soprano-tts failed: {error}", file=sys.stderr)
            return 2
    print(*table.lines(), sep="\n")
    return 0 if table.good else 1


if __name__ == "__main__":
    sys.exit(main())
