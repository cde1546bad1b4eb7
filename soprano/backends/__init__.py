"""Backends by name: the built-in ones, and those of third parties.

The protocol that they implement is `soprano.backends.protocol`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from soprano.backends.protocol import Attestation as Attestation
from soprano.backends.protocol import Attested as Attested
from soprano.backends.protocol import Backend as Backend
from soprano.backends.protocol import Capabilities as Capabilities
from soprano.backends.protocol import Float32 as Float32
from soprano.backends.protocol import Int64 as Int64
from soprano.backends.protocol import OptionalStages as OptionalStages
from soprano.backends.protocol import Output as Output
from soprano.backends.protocol import Spoken as Spoken
from soprano.backends.protocol import SynthesisResult as SynthesisResult
from soprano.backends.protocol import Verified as Verified
from soprano.backends.protocol import VerifyingBackend as VerifyingBackend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError, MissingExtraError

BUILT_IN = {
    "onnx_cpu": ("soprano.backends.onnx:open_onnx", "onnxruntime", "onnx"),
    "openvino_cpu": ("soprano.backends.openvino:OpenVinoBackend", "openvino", "openvino"),
    "pytorch": ("soprano.backends.pytorch:PyTorchBackend", "torch", "torch"),
}
ENTRY_POINTS = "soprano.backends"
# Runtimes start every thread that is requested: with thousands, opening takes minutes.
MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))


def backend_names() -> list[str]:
    """Every backend known by name, in the order that `auto` prefers; installed or not."""
    from importlib.metadata import entry_points

    return [*BUILT_IN, *sorted(point.name for point in entry_points(group=ENTRY_POINTS))]


def installed_backends() -> list[str]:
    """The built-in backends whose runtime can be imported, in the order that `auto` prefers."""
    from importlib.util import find_spec

    return [name for name, (_, module, _) in BUILT_IN.items() if find_spec(module)]


def open_backend(
    name: str,
    model: str | Path,
    precision: str = "fp32",
    threads: int | None = None,
    *,
    verify_weights: bool = True,
) -> Backend:
    """Open a model on a backend.

    Args:
        name: "auto", a built-in name, an entry point's name, or "package:factory", where
            `factory(folder: ModelFolder, *, precision: str, threads: int | None)` returns a
            backend.
        model: an embedded model's name, a checkpoint folder or a bundle folder.
        precision: the precision class; what the runtime does not grant is an error.
        threads: size of the runtime's thread pool, at most 64 or four for each core; None leaves
            its default.
        verify_weights: whether to compare the hashes of a bundle's weights with its manifest.
            Everything else in a bundle is always compared.

    Raises:
        BackendError: the name is unknown, or the runtime did not grant a setting.
        MissingExtraError: the runtime is not installed.
        ModelError: the folder is missing, incomplete or damaged.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads must be 1 to {MAX_THREADS}, got {threads}")
    folder = ModelFolder.open(model)
    if verify_weights:
        folder.require_unchanged(weights=True)
    if name == "auto":
        name = _first_installed()
    factory = _factory(name)
    return factory(folder, precision=precision, threads=threads)


def _first_installed() -> str:
    names = installed_backends()
    if not names:
        raise MissingExtraError(
            "no runtime is installed: pip install 'soprano-conformance[onnx]' "
            "(or [openvino], or [torch])"
        )
    return names[0]


def _factory(name: str) -> Callable[..., Backend]:
    if name in BUILT_IN:
        target, requirement, extra = BUILT_IN[name]
        try:
            return _load(target)
        except ImportError as error:
            raise MissingExtraError(
                f"backend {name!r} needs {requirement}: "
                f"pip install 'soprano-conformance[{extra}]' ({error})"
            ) from None
    if ":" in name:
        try:
            return _load(name)
        except (ImportError, AttributeError) as error:
            raise BackendError(f"backend {name!r} cannot be loaded: {error}") from None
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise BackendError(f"no backend {name!r}; known: {', '.join(backend_names())}")
    factory: Callable[..., Backend] = next(iter(points)).load()
    return factory


def _load(target: str) -> Callable[..., Backend]:
    module, _, attribute = target.partition(":")
    factory: Callable[..., Backend] = getattr(importlib.import_module(module), attribute)
    return factory
