"""Import OpenVINO with its telemetry disabled; by default every import sends some."""

from __future__ import annotations

import os
import sys

# oneDNN keeps up to 1024 compiled kernels, each for one shape, and every step of a long text has
# another shape. It reads the limit from the environment at its first kernel; 16 cost no time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")

_TELEMETRY = "openvino_telemetry"

_loaded = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # as if the module were not installed
try:
    import openvino as ov
    import openvino.opset13 as ops
    import openvino.passes as passes
finally:
    del sys.modules[_TELEMETRY]
    if _loaded is not None:
        sys.modules[_TELEMETRY] = _loaded

__all__ = ["ops", "ov", "passes"]
