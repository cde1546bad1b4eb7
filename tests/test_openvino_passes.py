"""OpenVINO attends in one operator where the graph says what that operator computes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conformance.golden.packs import fixture_models
from soprano.backends import open_backend
from soprano.export.bundle import export_bundle

MODELS = {path.name: path for path in fixture_models()}
STANDARD = "soprano.backends.onnx_standard:StandardOnnxBackend"


def joined(folder: Path) -> tuple[int, int]:
    """Layers with the operator, and layers."""
    backend = open_backend("openvino_cpu", folder)
    layers = backend.config.language_model.num_hidden_layers
    return int(backend.attest()["attention operators"].value), layers


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_layer_attends_in_one_operator(name):
    found, layers = joined(MODELS[name])
    assert found == layers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(MODELS["v10"], tmp_path_factory.mktemp("bundle") / "onnx")


def stepped(name: str, folder: Path) -> np.ndarray:
    backend = open_backend(name, folder)
    ids = np.arange(10).reshape(2, 5)
    return backend.step(ids[:, 0], backend.prefill(ids, np.array([5, 3])).state).hidden


def edited(bundle: Path, folder: Path, edit: Any) -> Path:
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("manifest*"))
    path = folder / "onnx" / "lm_step.onnx"
    model = onnx.load(path, load_external_data=False)
    edit({node.name: node for node in model.graph.node}, model.graph)
    onnx.save(model, path)
    return folder


def another_axis(nodes: dict[str, Any], graph: Any) -> None:
    nodes["model.layers.0.self_attn.shares"].attribute[0].i = -2


def another_mask(nodes: dict[str, Any], graph: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.float32(-3.0), "small"))
    nodes["model.layers.1.self_attn.masked"].input[2] = "small"


def values_before_keys(nodes: dict[str, Any], graph: Any) -> None:
    keys = nodes["model.layers.0.self_attn.keys"]
    keys.input[:] = [keys.input[1], keys.input[0]]


@pytest.mark.parametrize("edit", [another_axis, another_mask, values_before_keys])
def test_what_differs_is_left_as_it_is(bundle, tmp_path, edit):
    """The changed graph is run as it stands: in one layer less, and as ONNX Runtime runs it."""
    folder = edited(bundle, tmp_path / "edited", edit)
    found, layers = joined(folder)
    assert found == layers - 1
    ours, theirs, whole = (
        stepped(*run) for run in (("openvino_cpu", folder), (STANDARD, folder), (STANDARD, bundle))
    )
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(ours - whole).max() > 1e-2
