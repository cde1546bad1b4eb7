"""A backend whose memory grows with the text is seen."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import footprint, tolerances
from soprano.backends import Backend, open_backend
from soprano.model import ModelFolder, locate


def hoarder(folder: ModelFolder, **options: Any) -> Backend:
    """ONNX Runtime with a decoder that keeps every spectrum."""
    backend = open_backend("onnx_cpu", folder.path, options.get("precision", "fp32"), 1)
    kept = []
    decode = backend.decode

    def keeping(*arguments: Any) -> Any:
        kept.append(decode(*arguments))
        return kept[-1].copy()

    backend.decode = keeping  # type: ignore[method-assign]
    return backend


def test_spectra_that_are_kept_are_seen():
    if not footprint.measurable():
        pytest.skip("what a process holds is measured on Linux alone")
    name = f"{hoarder.__module__}:{hoarder.__name__}"
    assert footprint.excess(name, locate("nano"), "fp32") > 2 * tolerances.FOOTPRINT
