"""OpenVINO, imported so that it tells its makers nothing: by default every import of it does."""

from __future__ import annotations

import os
import sys

# oneDNN inside it keeps 1024 compiled kernels, each for one shape, and a long text has a new shape
# at every step. It reads this at its first kernel and offers no other way; 16 cost no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")

_REPORTER = "openvino_telemetry"

_found = sys.modules.get(_REPORTER)
sys.modules[_REPORTER] = None  # type: ignore[assignment]  # the mark of a module that is missing
try:
    import openvino as ov
    import openvino.opset13 as ops
    import openvino.passes as passes
finally:
    del sys.modules[_REPORTER]
    if _found is not None:
        sys.modules[_REPORTER] = _found

__all__ = ["ops", "ov", "passes"]
