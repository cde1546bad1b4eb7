"""A runtime whose memory grows with the text is seen."""

from __future__ import annotations

import pytest

from conformance import footprint, tolerances
from soprano.backends import installed_backends
from soprano.model import locate


def test_kernels_kept_for_every_shape_are_seen(monkeypatch):
    if "openvino_cpu" not in installed_backends() or not footprint.PEAK.exists():
        pytest.skip("no OpenVINO, or no Linux")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024")
    found = footprint.excess("openvino_cpu", locate("nano"), "fp32")
    assert found > 2 * tolerances.FOOTPRINT
