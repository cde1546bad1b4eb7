"""A backend whose memory grows with the text is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conformance.judging import memory as footprint
from conformance.judging import tolerances
from soprano.backends import Backend, open_backend
from soprano.checkpoint.folder import ModelFolder, locate


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


def kernels(folder: ModelFolder, **options: Any) -> Backend:
    """OpenVINO with a kernel kept for every shape, as it does by itself."""
    from soprano.backends import openvino

    openvino._LIMITS["CPU_RUNTIME_CACHE_CAPACITY"] = "5000"
    return open_backend("openvino_cpu", folder.path, options.get("precision", "fp32"), 1)


@pytest.mark.parametrize("fault", [hoarder, kernels])
def test_what_is_kept_of_every_sentence_is_seen(fault: Callable[..., Backend]):
    name = f"{fault.__module__}:{fault.__name__}"
    if not footprint.measurable():
        with pytest.raises(RuntimeError):  # there it is refused, not passed
            footprint.excess(name, locate("nano"), "fp32")
        return
    assert footprint.excess(name, locate("nano"), "fp32") > 1.5 * tolerances.MEMORY_PER_SENTENCE
