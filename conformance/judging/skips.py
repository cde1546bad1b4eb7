"""The skips that are allowed: requirements that cannot be judged without a certain library.

Any other skip is an error. A requirement that needs a capability which the backend does not
declare is not skipped but not applicable.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

# (requirement or its prefix, the library without which it cannot be judged): reason
ALLOWED = {
    ("IS-02", "torch"): "the ISTFT is compared with torch.istft",
    ("CK-08", "torch"): "decoder.pth is a PyTorch file",
    ("CK-14", "torch"): "decoder.pth is a PyTorch file",
    ("CK-14", "onnxruntime"): "a bundle is opened on its runtime",
    ("CK-14", "openvino"): "a bundle is opened on its runtime",
    ("CK-16", "torch"): "the settings are those of PyTorch",
    ("CK-16", "onnxruntime"): "an export is tried on its runtime",
    ("CK-19", "onnxruntime"): "the checkpoint is opened on a runtime",
    ("CK-20", "gguf"): "GGUF files are read with the gguf package",
    ("CK-20", "onnxruntime"): "the model folder is opened on a runtime",
    ("PR-07", "torch"): "the reference voice runs on PyTorch",
    ("PR-08", "torch"): "the reference voice runs on PyTorch",
    ("EX-", "onnx"): "graphs are written with the onnx package",
    ("EX-", "onnxruntime"): "exported graphs are run in ONNX Runtime",
    ("EX-14", "openvino"): "an IR is opened on its runtime",
}


class NotDeclared(pytest.skip.Exception):
    """The backend does not declare a capability or stage that the requirement needs."""


def reason(requirements: tuple[str, ...]) -> str | None:
    """Why a test of these requirements may be skipped; None if it may not be."""
    for (prefix, library), why in ALLOWED.items():
        missing = find_spec(library) is None
        if missing and requirements and all(name.startswith(prefix) for name in requirements):
            return f"{library} is not installed: {why}"
    return None
