"""Writes a copy of a model of the suite with weights in float32: `float32.py MODEL FOLDER`."""

import shutil
import sys
from pathlib import Path

from safetensors.numpy import save_file

from conformance.golden.packs import fixture_models
from soprano.checkpoint.folder import ModelFolder

name, target = sys.argv[1], Path(sys.argv[2])
source = ModelFolder.open(next(path for path in fixture_models() if path.name == name))
shutil.copytree(source.path, target, ignore=shutil.ignore_patterns("*.safetensors"))
save_file(source.language_model_weights(), target / "model.safetensors")
save_file(source.decoder_weights(), target / "decoder.safetensors")
