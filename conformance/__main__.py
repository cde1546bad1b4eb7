"""`python -m conformance`."""

from __future__ import annotations

import sys

try:
    from conformance.cli import main
except KeyboardInterrupt:  # during the imports
    print("conformance: interrupted", file=sys.stderr)
    sys.exit(130)
main()
