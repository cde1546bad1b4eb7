"""Checkpoint folders that the tests write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from conformance.golden.packs import fixture_models
from soprano.checkpoint.folder import ModelFolder

SOURCE = next(path for path in fixture_models() if path.name == "v11")
SIGNAL = {"sample_rate": 24000, "n_fft": 62, "hop_length": 16, "win_length": 62}


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SOURCE / "config.json").read_text(encoding="utf-8"))
    return found


def shapes(input_size: int, dim: int, layers: int, kernel: int, rows: int) -> dict[str, Any]:
    """The shapes of a decoder's tensors, those that tell its numbers."""
    found: dict[str, Any] = {
        "decoder.embed.weight": (dim, input_size, kernel),
        "head.out.weight": (rows, dim),
    }
    for layer in range(layers):
        found[f"decoder.convnext.{layer}.pwconv1.weight"] = (3 * dim, dim)
        found[f"decoder.convnext.{layer}.dwconv.weight"] = (dim, 1, 3)
    return found


def rewrite(folder: Path, **change: Any) -> None:
    """Change keys of a folder's `config.json`."""
    path = folder / "config.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**found, **change}), encoding="utf-8")


def weights_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    folder = ModelFolder.open(path)
    return folder.language_model_weights(), folder.decoder_weights()


def same_weights(judge, one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    judge.equal("names", sorted(one), sorted(two))
    for name, values in one.items():
        judge.same(name, values, two[name])
