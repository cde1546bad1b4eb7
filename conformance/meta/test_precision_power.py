"""Quantised bundles with one fault each, such as exporters make: every one is seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.golden.packs import fixture_models

MODEL = next(path for path in fixture_models() if path.name == "v11")
MATRIX = "decoder.convnext.3.pwconv2.weight"  # of three blocks a row


def change(bundle: Path, graph: str, name: str, edit: Any) -> None:
    """Put another tensor in the place of one of a graph's."""
    import onnx
    from onnx import numpy_helper

    path = bundle / "onnx" / f"{graph}.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            changed = edit(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(changed, name))
    onnx.save(model, path)


def wrong_zero_point(bundle: Path) -> None:
    change(
        bundle, "decoder", f"{MATRIX}.int8", lambda levels: np.minimum(levels, 254) + np.uint8(1)
    )


def wrong_block_scale(bundle: Path) -> None:
    def edit(scales: np.ndarray) -> np.ndarray:
        scales[7, 1] *= 1.25
        return scales

    change(bundle, "decoder", f"{MATRIX}.scales", edit)


def transposed_scales(bundle: Path) -> None:
    change(bundle, "decoder", f"{MATRIX}.scales", lambda s: s.T.reshape(s.shape).copy())


def depthwise_in_one_scale(bundle: Path) -> None:
    """Depthwise kernels on one scale of 8 bits for the whole tensor."""

    def edit(weight: np.ndarray) -> np.ndarray:
        step = np.abs(weight).max() / np.float32(127)
        return (np.rint(weight / step) * step).astype(weight.dtype)

    for block in range(8):
        change(bundle, "decoder", f"decoder.convnext.{block}.dwconv.weight", edit)


def unpacked(bundle: Path) -> None:
    """The manifest says int8, the graphs are the float ones."""
    from soprano.export.bundle import export_bundle

    plain = export_bundle(MODEL, bundle.with_name("plain"), to="onnx")
    shutil.rmtree(bundle / "onnx")
    (plain / "onnx").rename(bundle / "onnx")
    shutil.rmtree(plain)


FAULTS = {
    wrong_zero_point: {"PR-02", "PR-03"},
    wrong_block_scale: {"PR-03"},
    transposed_scales: {"PR-03"},
    depthwise_in_one_scale: {"PR-06"},
    unpacked: {"PR-04", "PR-05"},
}


def judge(folder: Path, precision: str, backend: str = "onnx_cpu") -> dict[str, dict[str, str]]:
    """The verdict on every requirement of precision classes, for each bundle in a folder."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += ["--pyargs", "conformance", "--requirement", "PR", "--threads", "1"]
    command += ["--model", str(folder), "--precision", precision, "--backend", backend]
    command += ["--report-dir", str(folder.parent / "report")]
    result = subprocess.run(command, capture_output=True, text=True)
    report = folder.parent / "report" / "conformance.json"
    assert report.is_file(), result.stdout + result.stderr
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {
        subject.removeprefix(f"{backend}-"): {name: entry["verdict"] for name, entry in own.items()}
        for subject, own in results.items()
    }


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    from soprano.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("int8") / "bundles"
    honest = export_bundle(MODEL, folder / "honest", to="onnx", precision="int8")
    for fault in FAULTS:
        fault(Path(shutil.copytree(honest, folder / fault.__name__)))
    return judge(folder, "int8")


def red(verdicts: dict[str, str]) -> set[str]:
    return {name for name, verdict in verdicts.items() if verdict not in ("pass", "not-applicable")}


def test_an_honest_bundle_passes(verdicts):
    assert red(verdicts["honest"]) == set()
    assert [name for name, verdict in verdicts["honest"].items() if verdict == "pass"] == [
        f"PR-0{number}" for number in range(1, 7)
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_a_quantised_export_is_seen(verdicts, fault):
    found = red(verdicts[fault.__name__])
    assert FAULTS[fault] <= found, found
