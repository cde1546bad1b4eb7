"""The draft of a voice: a quantised copy of its language model, found in a folder or made.

`soprano.drafting` tells what it is for.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from soprano.backends import Backend, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import DRAFT
from soprano.errors import BackendError, MissingExtraError, ModelError

NONE = "none"
CLASSES = ("int8", "int4")
_RUNTIMES = {"onnx_cpu": "onnx", "onnx_standard": "onnx", "openvino_cpu": "openvino"}


def open_draft(
    draft: str | Path | None, model: ModelFolder, backend: Backend, name: str, threads: int | None
) -> Backend | None:
    """The draft of a voice, or None if it has none.

    Args:
        draft: a precision class, the folder of a bundle, "none", or None for the draft that the
            model folder contains, if it does and the backend can verify.
        model: the folder of the voice.
        backend: that will verify.
        name: by which it was opened.
        threads: of the draft.

    Raises:
        BackendError: the backend cannot verify, or has no such precision class.
        ModelError: the draft is of another model.
        MissingExtraError: quantising needs an extra that is not installed.
    """
    if draft is None and backend.capabilities.verify and (model.path / DRAFT).is_dir():
        draft = model.path / DRAFT
    if draft is None or draft == NONE:
        return None
    if not backend.capabilities.verify:
        raise BackendError(f"{backend.name} cannot verify several ids at once: it takes no draft")
    path = _folder(str(draft), model, backend) if draft in CLASSES else Path(draft)
    folder = ModelFolder.open(path)
    if folder.config.language_model != model.config.language_model:
        raise ModelError(f"the draft {path} is of another model than {model.path}")
    opened = open_backend(name, path, folder.precision, threads)
    if not opened.capabilities.verify:
        raise BackendError(f"the draft {path} cannot read several ids at once: export it again")
    if path.parent == Path(tempfile.gettempdir()):
        weakref.finalize(opened, shutil.rmtree, path, ignore_errors=True)
    return opened


def _folder(precision: str, model: ModelFolder, backend: Backend) -> Path:
    """The model folder's own draft of a precision class, or a new one in a temporary folder."""
    own = model.path / DRAFT
    if own.is_dir() and ModelFolder.open(own).precision == precision:
        return own
    if backend.name not in _RUNTIMES:
        raise BackendError(f"{backend.name} has no {precision} draft: name the folder of one")
    try:
        from soprano.export.bundle import export_bundle
    except ImportError as error:
        raise MissingExtraError(
            f"making a draft needs an extra: pip install 'soprano-conformance[export]' ({error})"
        ) from None
    path = Path(tempfile.mkdtemp(prefix="soprano-draft-"))
    runtime = _RUNTIMES[backend.name]
    return export_bundle(model.path, path, to=runtime, precision=precision, part="lm")
