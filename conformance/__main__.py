"""`python -m conformance`."""

from __future__ import annotations

import sys

try:
    from conformance.cli import main

    main()
except KeyboardInterrupt:  # during the first imports
    print("conformance: interrupted", file=sys.stderr)
    sys.exit(130)
