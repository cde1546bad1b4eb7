"""EX: a bundle is what its manifest states, graphs refer only to files beside them, and kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from soprano.backends import open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import write_manifest
from soprano.errors import ModelError
from soprano.onnx_graphs.stored_tensors import require_sound
from soprano.regular_files import read_regular

from ..model_folders.checkpoints import SOURCE

ROOT = Path(__file__).parents[2]

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def export(target, **options):
    from soprano.export.bundle import export_bundle

    return export_bundle(SOURCE, target, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def append(name, raw=b" "):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + raw)


def flip(name):
    def change(folder):
        raw = bytearray((folder / name).read_bytes())
        raw[-1] ^= 1
        (folder / name).write_bytes(raw)

    return change


def sample_rate(folder):
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    document["soprano_decoder"]["sample_rate"] *= 2
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


CHANGES = {
    "config.json": sample_rate,
    "tokenizer.json": append("tokenizer.json"),
    "onnx/lm_step.onnx": flip("onnx/lm_step.onnx"),  # not run by this backend
    "onnx/decoder.safetensors": flip("onnx/decoder.safetensors"),
    "generation_config.json": lambda folder: (folder / "generation_config.json").unlink(),
    "onnx/other.onnx": lambda folder: (folder / "onnx" / "other.onnx").write_bytes(b""),
    "notes.txt": lambda folder: (folder / "notes.txt").write_bytes(b"notes"),
}


@pytest.mark.requirement("EX-13")
@pytest.mark.parametrize("name", CHANGES)
def test_a_bundle_is_exactly_what_its_manifest_lists(judge, bundle, copy, name):
    CHANGES[name](copy)
    message = judge.refuses(
        name,
        lambda: open_backend("onnx_cpu", copy),
        ModelError,
        accepts=lambda: open_backend("onnx_cpu", bundle),
    )
    for part in (str(copy), Path(name).name):
        judge.equal(f"{message!r} names {part}", part in message, True)


@pytest.mark.requirement("EX-13")
def test_the_hashes_of_weights_can_be_skipped_and_nothing_else(judge, copy):
    flip("onnx/decoder.safetensors")(copy)
    opened = open_backend("onnx_cpu", copy, verify_weights=False)
    judge.equal("opened", opened.name, "onnx_cpu")
    flip("tokenizer.json")(copy)
    with pytest.raises(ModelError, match=r"tokenizer\.json was changed"):
        open_backend("onnx_cpu", copy, verify_weights=False)


@pytest.mark.requirement("EX-13")
def test_files_of_repositories_beside_a_bundle_are_ignored(judge, copy):
    (copy / "README.md").write_text("card", encoding="utf-8")
    (copy / ".git").mkdir()
    (copy / ".gitattributes").write_text("", encoding="utf-8")
    judge.equal("opened", open_backend("onnx_cpu", copy).name, "onnx_cpu")


def located(key, value):
    """A graph whose first external tensor has another entry."""

    def change(model):
        tensor = next(t for t in model.graph.initializer if t.external_data)
        entry = next(e for e in tensor.external_data if e.key == key)
        entry.value = value

    return change


def hidden_location(model):
    """A location in an attribute of a node, which no list of initialisers shows."""
    tensor = onnx.TensorProto(name="inner", dims=[1], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value="../outside.bin")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["inner"], value=tensor))


def inline(value, kind=np.float32):
    def change(model):
        array = np.array([0, value], kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, "inline"))

    return change


GRAPHS = {
    "address": located("location", "*/_ORT_MEM_ADDR_/*"),
    "parent": located("location", "../model.safetensors"),
    "absolute": located("location", "/etc/passwd"),
    "empty": located("location", ""),
    "dot": located("location", "."),
    "missing": located("location", "none.bin"),
    "offset": located("offset", str(10**15)),
    "negative": located("offset", "-8"),
    "no number": located("length", "0x10"),
    "length": located("length", "4"),
    "attribute": hidden_location,
    "NaN": inline(np.nan),
    "Inf": inline(np.inf),
    "half": inline(np.nan, np.float16),
}


@pytest.mark.requirement("EX-14")
@pytest.mark.parametrize("name", ["onnx_cpu", "openvino_cpu"])
def test_a_graph_refers_to_files_beside_it_and_is_finite(judge, bundle, copy, name):
    pytest.importorskip("openvino" if name == "openvino_cpu" else "onnxruntime")
    (copy / "manifest.json").unlink()
    path = copy / "onnx" / "decoder.onnx"
    raw = path.read_bytes()
    judge.equal("unchanged", require_sound(path), None)
    for case, change in GRAPHS.items():
        model = onnx.load_from_string(raw)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError) as caught:
            open_backend(name, copy)
        judge.equal(
            f"{case}: {caught.value} names the folder", str(copy) in str(caught.value), True
        )


@pytest.mark.requirement("EX-14")
def test_an_ir_is_finite_and_lies_in_its_weights(judge, tmp_path):
    pytest.importorskip("openvino")
    ir = export(tmp_path / "ir", to="openvino")
    path = ir / "openvino" / "decoder.xml"
    text, weights = path.read_text(encoding="utf-8"), path.with_suffix(".bin").read_bytes()
    manifest = json.loads((ir / "manifest.json").read_text(encoding="utf-8"))
    bad = np.frombuffer(weights, "<u4").copy()
    bad[len(bad) // 2 :] = 0x7FC00000  # NaN
    declared = '<!DOCTYPE net [<!ENTITY a "b">]>' + text.partition("?>")[2]
    for case, xml, raw in (
        ("entity", declared, weights),
        ("entity in UTF-16", '<?xml version="1.0" encoding="utf-16"?>' + declared, weights),
        ("outside", text.replace('offset="0"', 'offset="99999999999"'), weights),
        ("no number", text.replace('offset="0"', 'offset="-1"'), weights),
        ("NaN", text, bad.tobytes()),
    ):
        path.write_text(xml, encoding="utf-16" if "16" in case else "utf-8")
        path.with_suffix(".bin").write_bytes(raw)
        write_manifest(ir, manifest)
        with pytest.raises(ModelError) as caught:
            open_backend("openvino_cpu", ir)
        judge.equal(f"{case}: {caught.value} names the file", "decoder." in str(caught.value), True)
    (ir / "manifest.json").unlink()
    with pytest.raises(ModelError, match="is not listed"):
        open_backend("openvino_cpu", ir)


KILLED = """
import sys

sys.path.append(sys.argv[1])  # behind the installed package
from soprano.export.bundle import export_bundle
from tests.robustness.kills import killed_at

source, target, number, when = sys.argv[2:]
with killed_at(int(number), when, exchange=True):
    export_bundle(source, target, part="decoder")
"""


def killed(tmp_path, number, when):
    """Whether an export over an existing bundle was killed at its n-th change of a name."""
    words = [str(ROOT), str(SOURCE), str(tmp_path / "bundle"), str(number), when]
    result = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode != 0


@pytest.mark.requirement("EX-15")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_export_leaves_the_old_bundle_or_the_new_one(judge, tmp_path, when):
    target = export(tmp_path / "bundle", part="lm")
    number = 0
    while number < 60 and killed(tmp_path, number := number + 1, when):
        ModelFolder.open(target).require_unchanged(weights=True)
        # The removal of the old folder's files differs in nothing: a few of them are enough.
        number += 3 if number > 6 else 0
    judge.equal("kills", number > 1, True)
    judge.equal("complete", (target / "onnx" / "decoder.onnx").is_file(), True)
    judge.equal("left behind", [path.name for path in tmp_path.iterdir()], ["bundle"])


@pytest.mark.requirement("EX-15")
def test_a_second_exporter_reports_who_writes_the_folder(judge, tmp_path):
    from soprano.export.replace import replacing

    target = tmp_path / "bundle"
    with replacing(target) as folder:
        (folder / "begun").write_bytes(b"")
        with pytest.raises(ModelError, match=f"written by process {os.getpid()}"):
            export(target)
    judge.equal("the first one's", [path.name for path in target.iterdir()], ["begun"])
    judge.equal("left behind", [path.name for path in tmp_path.iterdir()], ["bundle"])


@pytest.mark.requirement("EX-15")
def test_without_an_exchange_an_interrupted_replacement_is_taken_back(judge, tmp_path, monkeypatch):
    from soprano.export import replace

    monkeypatch.setattr(replace, "_exchange", lambda first, second: False)
    target = tmp_path / "bundle"
    for content in ("old", "new"):
        with replace.replacing(target) as folder:
            (folder / "content").write_text(content, encoding="utf-8")
    judge.equal("replaced", read_regular(target / "content", 9), b"new")
    target.rename(tmp_path / ".bundle.1234.old")  # as after a kill between two renames
    (tmp_path / ".bundle.1234.new").mkdir()
    with replace.replacing(target) as folder:
        judge.equal("taken back", (folder / "content").read_text("utf-8"), "new")
    judge.equal("left behind", [path.name for path in tmp_path.iterdir()], ["bundle"])
