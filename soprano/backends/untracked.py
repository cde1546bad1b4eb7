"""OpenVINO, imported so that it tells its makers nothing: by default every import of it does."""

from __future__ import annotations

import sys

_REPORTER = "openvino_telemetry"

_found = sys.modules.get(_REPORTER)
sys.modules[_REPORTER] = None  # type: ignore[assignment]  # the mark of a module that is missing
try:
    import openvino as ov
    import openvino.opset13 as ops
    from openvino.passes import MakeStateful, Manager
finally:
    del sys.modules[_REPORTER]
    if _found is not None:
        sys.modules[_REPORTER] = _found

__all__ = ["MakeStateful", "Manager", "ops", "ov"]
