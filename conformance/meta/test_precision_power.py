"""The suite detects each planted error of a quantised export."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformance.golden.packs import fixture_models

MODEL = next(path for path in fixture_models() if path.name == "v11")
MATRIX = "decoder.convnext.3.pwconv2.weight"  # three blocks per row


def change(bundle, graph, name, edit):
    """Replace one tensor of a graph."""
    import onnx
    from onnx import numpy_helper

    path = bundle / "onnx" / f"{graph}.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            changed = edit(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(changed, name))
    onnx.save(model, path)


def wrong_zero_point(bundle):
    change(bundle, "decoder", f"{MATRIX}.int8", lambda codes: np.minimum(codes, 254) + np.uint8(1))


def wrong_block_scale(bundle):
    def edit(scales):
        scales[7, 1] *= 1.25
        return scales

    change(bundle, "decoder", f"{MATRIX}.scales", edit)


def transposed_scales(bundle):
    change(bundle, "decoder", f"{MATRIX}.scales", lambda s: s.T.reshape(s.shape).copy())


def depthwise_kernels_quantised(bundle):
    """Depthwise kernels in 8 bits with one scale per tensor."""

    def edit(weight):
        scale = np.abs(weight).max() / np.float32(127)
        return (np.rint(weight / scale) * scale).astype(weight.dtype)

    for block in range(8):
        change(bundle, "decoder", f"decoder.convnext.{block}.dwconv.weight", edit)


def float_graphs(bundle):
    """Float graphs in a bundle whose manifest states int8."""
    from soprano.export.bundle import export_bundle

    plain = export_bundle(MODEL, bundle.with_name("plain"), to="onnx")
    shutil.rmtree(bundle / "onnx")
    (plain / "onnx").rename(bundle / "onnx")
    (bundle / "onnx" / "lm_step_fused.onnx").unlink()  # a bundle of the model in int8 has none
    shutil.rmtree(plain)


FAULTS = {
    wrong_zero_point: {"PR-02", "PR-03"},
    wrong_block_scale: {"PR-03"},
    transposed_scales: {"PR-03"},
    depthwise_kernels_quantised: {"PR-06"},
    float_graphs: {"PR-04", "PR-05"},
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """By bundle, the verdict on each requirement of precision classes."""
    from soprano.checkpoint.manifest import write_manifest
    from soprano.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("int8")
    correct = export_bundle(MODEL, folder / "bundles" / "correct", to="onnx", precision="int8")
    for fault in FAULTS:
        bundle = Path(shutil.copytree(correct, folder / "bundles" / fault.__name__))
        fault(bundle)
        write_manifest(bundle, json.loads((bundle / "manifest.json").read_text(encoding="utf-8")))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += ["--pyargs", "conformance", "--requirement", "PR", "--threads", "1"]
    command += ["--model", str(folder / "bundles"), "--precision", "int8", "--backend", "onnx_cpu"]
    command += ["--only-model", "--report-dir", str(folder / "report")]
    result = subprocess.run(command, capture_output=True, text=True)
    report = folder / "report" / "conformance.json"
    assert report.is_file(), result.stdout + result.stderr
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {
        subject.removeprefix("onnx_cpu-"): {name: entry["verdict"] for name, entry in own.items()}
        for subject, own in results.items()
    }


def failed(verdicts):
    return {name for name, verdict in verdicts.items() if verdict not in ("pass", "not-applicable")}


def test_a_correct_quantised_bundle_passes(verdicts):
    assert failed(verdicts["correct"]) == set()
    passed = [name for name, verdict in verdicts["correct"].items() if verdict == "pass"]
    # The audio of PR-07 and PR-08 needs the trained voice.
    assert passed == [*(f"PR-0{number}" for number in (*range(1, 7), 9)), "PR-10"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_error_of_a_quantised_export_fails_its_requirement(verdicts, fault):
    result = failed(verdicts[fault.__name__])
    assert FAULTS[fault] <= result, result
