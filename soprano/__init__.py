"""Text to speech with models of the Soprano family, and the reference for ports of them.

Public names are imported at their first use, so that importing the package loads no runtime.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import soprano.forked  # noqa: F401 - notices the forks that follow

if TYPE_CHECKING:
    from soprano.audio import Audio as Audio
    from soprano.audio import AudioChunk as AudioChunk
    from soprano.audio import Sentence as Sentence
    from soprano.backends import open_backend as open_backend
    from soprano.config import IstftConfig as IstftConfig
    from soprano.config import SamplingOptions as SamplingOptions
    from soprano.errors import BackendError as BackendError
    from soprano.errors import MissingExtraError as MissingExtraError
    from soprano.errors import ModelError as ModelError
    from soprano.errors import SopranoError as SopranoError
    from soprano.sampling import sample as sample
    from soprano.stft import istft as istft
    from soprano.synthesis import SopranoTTS as SopranoTTS
    from soprano.text import normalize as normalize
    from soprano.tokenizer import load_tokenizer as load_tokenizer

__version__ = "0.1.0"

_MODULES = {
    "Audio": "audio",
    "AudioChunk": "audio",
    "BackendError": "errors",
    "IstftConfig": "config",
    "MissingExtraError": "errors",
    "ModelError": "errors",
    "SamplingOptions": "config",
    "Sentence": "audio",
    "SopranoError": "errors",
    "SopranoTTS": "synthesis",
    "istft": "stft",
    "load_tokenizer": "tokenizer",
    "normalize": "text",
    "open_backend": "backends",
    "sample": "sampling",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'soprano' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"soprano.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refuse_a_shared_folder() -> None:
    """Raise ImportError if another distribution has written files into this folder too."""
    for record in Path(__file__).parent.parent.glob("soprano*.dist-info/RECORD"):
        if record.parent.name.startswith("soprano_conformance-"):
            continue
        if "\nsoprano/" in "\n" + record.read_text(encoding="utf-8"):
            other = record.parent.name.split("-")[0].replace("_", "-")
            raise ImportError(
                f"the distributions soprano-conformance and {other} both provide the package "
                f"'soprano': run `pip uninstall {other} soprano-conformance`, then install them "
                "into separate environments"
            )


_refuse_a_shared_folder()
