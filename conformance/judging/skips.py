"""The skips that are allowed, by name: what cannot be judged where a library is not installed.

Any other skip is an error; what a backend does not declare is not a skip but not applicable.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

# (requirement or its prefix, the library without which it cannot be judged): reason
ALLOWED = {
    ("IS-02", "torch"): "torch.istft is one of two libraries that the transform is compared with",
    ("CK-08", "torch"): "decoder.pth is a PyTorch file",
    ("PR-07", "torch"): "the reference voice speaks through PyTorch",
    ("PR-08", "torch"): "the reference voice speaks through PyTorch",
    ("EX-", "onnx"): "graphs are written with the onnx package",
    ("EX-", "onnxruntime"): "exported graphs are tried in ONNX Runtime",
}


class NotDeclared(pytest.skip.Exception):
    """Raised where a requirement needs a capability that the backend does not declare."""


def reason(requirements: tuple[str, ...]) -> str | None:
    """Why a test of these requirements may be skipped here; None where it may not."""
    for (prefix, library), why in ALLOWED.items():
        missing = find_spec(library) is None
        if missing and requirements and all(name.startswith(prefix) for name in requirements):
            return f"{library} is not installed: {why}"
    return None
