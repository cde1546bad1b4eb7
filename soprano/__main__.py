"""`python -m soprano`, and the console script `soprano`."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line and run it; an interrupt during the imports ends it as one later."""
    try:
        from soprano.cli import main as run
    except KeyboardInterrupt:
        print("soprano: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
