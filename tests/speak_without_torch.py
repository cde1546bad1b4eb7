"""Export a model and synthesise with its bundle in an environment with ONNX Runtime, without torch.

usage: python speak_without_torch.py MODEL BUNDLE
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

import numpy as np

import soprano
from soprano.backends import installed_backends
from soprano.export.bundle import export_bundle


def main(model, bundle):
    assert importlib.util.find_spec("torch") is None, "torch is installed"
    site = Path(sysconfig.get_paths()["purelib"])
    assert site in Path(soprano.__file__).parents, f"soprano is imported from {soprano.__file__}"
    assert installed_backends() == ["onnx_cpu"], installed_backends()
    export_bundle(model, bundle, to="onnx")
    voice = soprano.SopranoTTS(bundle)
    audio = voice.infer("Hello world.", out_path=Path(bundle) / "hello.wav", max_new_tokens=50)
    tokens = len(audio.sentences[0].token_ids)
    assert len(audio) == (tokens - 1) * voice.config.decoder.samples_per_token > 0
    assert np.isfinite(audio.samples).all()
    assert np.abs(audio.samples).max() > 0
    assert "torch" not in sys.modules
    print(f"{audio.duration:.2f} s of audio from {voice.backend.name}, without torch")


main(*sys.argv[1:])
