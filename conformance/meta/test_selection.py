"""What a run judges: backends that are one, models, their files, and what is left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from conformance.golden.packs import fixture_models
from conformance.opening import (
    Misfit,
    digest,
    facts_of,
    open_subject,
    require_all_graphs,
    require_backend,
)
from conformance.selection import open_each, select
from conformance.subject import Subject
from soprano.backends import Attested, Capabilities, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import write_manifest
from soprano.errors import ModelError

MODELS = {path.name: path for path in fixture_models()}
MODEL = MODELS["v11"]
CONFIG = ModelFolder.open(MODEL).config
STANDARD = "soprano.backends.onnx_standard:StandardOnnxBackend"


class Options:
    """The options of a run, as pytest gives them."""

    def __init__(self, known):
        self.getoption = known.get


def config_of(**options):
    return Options({f"conformance_{name}": value for name, value in options.items()})


def list_again(bundle):
    """Write the manifest of a bundle whose files were changed."""
    document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(bundle, document)


def stub(**members):
    """An object with the members of the protocol; None removes one."""
    names = ("attest", "prefill", "step", "decode", "fork", "select", "join", "close")
    given = dict.fromkeys(names, lambda *_: None) | {"attest": lambda: {"version": ATTESTED}}
    given |= {"name": "stub", "config": CONFIG, "capabilities": Capabilities()}
    kept = {name: member for name, member in (given | members).items() if member is not None}
    return SimpleNamespace(**kept)


ATTESTED = Attested("1", "read back")
WITHOUT = Capabilities(fork=False, select=False, join=False)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, None),
        ({"step": None, "decode": None}, "lacks step, decode"),
        ({"capabilities": None}, "lacks capabilities"),
        ({"capabilities": {"batch": False}}, "soprano.backends.protocol.Capabilities, not a dict"),
        ({"config": {"hidden_size": 32}}, "soprano.config.ModelConfig, not a dict"),
        ({"name": 3}, "name must be a str, not a int"),
        ({"prefill": "prefill"}, "prefill must be a method, not a str"),
        ({"fork": None}, "lacks fork"),
        ({"fork": None, "select": None, "join": None, "capabilities": WITHOUT}, None),
        ({"decode": None, "capabilities": replace(WITHOUT, spectrum=False)}, "lacks decode_audio"),
        (
            {
                "decode": None,
                "decode_audio": print,
                "capabilities": replace(WITHOUT, spectrum=False),
            },
            None,
        ),
        ({"normalize": "text"}, "normalize must be a method"),
    ],
)
def test_an_object_must_have_the_members_of_the_protocol(members, fault):
    with pytest.raises(Misfit, match="returned a NoneType"):
        require_backend(None)
    if fault is None:
        require_backend(stub(**members))
    else:
        with pytest.raises(Misfit, match=fault):
            require_backend(stub(**members))


@pytest.mark.parametrize("attested", [None, [], {"version": "1"}, {"version": Attested(1, "x")}])
def test_an_attestation_of_another_kind_is_a_misfit(attested):
    with pytest.raises(Misfit, match="Attested"):
        facts_of(stub(attest=lambda: attested), MODEL)


def test_a_port_opens_a_bundle_in_the_precision_of_the_bundle(tmp_path):
    bundle = shutil.copytree(MODEL, tmp_path / "bundle")
    precision = {"class": "int8", "activations": {}}
    write_manifest(bundle, {"schema_version": 1, "model": {"identity": ""}, "precision": precision})
    opened = []
    subject = Subject(open_backend=lambda *options: opened.append(options) or stub())
    for model, requested in ((bundle, None), (MODEL, None), (MODEL, "bf16")):
        open_subject(config_of(precision=requested, threads=3), subject, "port", model)
    assert [options[2] for options in opened] == ["int8", "fp32", "bf16"]


@pytest.fixture
def foreign(tmp_path):
    """A model folder with weights and, beside them, a graph that no backend of ours runs."""
    folder = shutil.copytree(MODEL, tmp_path / "v11")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "soprano_backbone_kv.onnx").write_bytes(b"garbage")
    return folder


def test_a_graph_that_a_backend_does_not_run_is_refused_before_any_test(foreign):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--pyargs"]
    command += ["conformance", "--model", str(foreign), "--backend", "onnx_cpu"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 4
    assert "onnx_cpu does not run onnx/soprano_backbone_kv.onnx of" in result.stderr
    assert len((result.stdout + result.stderr).splitlines()) < 4


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "a/b/model.gguf", "ov/model.xml", "ov/model.bin", "m.tflite", "M.PTE",
     "soprano.mlpackage/Data/model.mlmodel"],
)  # fmt: skip
def test_every_kind_of_graph_anywhere_below_the_folder_is_found(tmp_path, name):
    folder = shutil.copytree(MODEL, tmp_path / "v11")
    weights = [folder / "model.safetensors"]
    require_all_graphs(stub(files=weights), folder)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"garbage")
    with pytest.raises(Misfit, match=name.split("/Data")[0]):
        require_all_graphs(stub(files=weights), folder)
    require_all_graphs(stub(files=[path]), folder)
    require_all_graphs(stub(), folder)  # a port that states no files is given all of them
    assert facts_of(stub(), folder).files[name] == digest(path)


def test_the_report_lists_the_files_that_ran():
    files = facts_of(open_backend("onnx_cpu", MODEL), MODEL).files
    names = ("decoder.safetensors", "model.safetensors")
    assert files == {name: digest(MODEL / name) for name in names}
    with pytest.raises(Misfit, match="there is no"):
        facts_of(stub(files=[MODEL / "absent.onnx"]), MODEL)
    with pytest.raises(Misfit, match="sequence of paths"):
        facts_of(stub(files=str(MODEL)), MODEL)


def test_a_bundle_for_two_runtimes_suits_both_unless_a_graph_was_replaced(tmp_path):
    from soprano.export.bundle import export_bundle

    for runtime in ("onnx", "openvino"):
        bundle = export_bundle(MODEL, tmp_path / "bundle", to=runtime)
    voices = {name: open_backend(name, bundle) for name in ("onnx_cpu", "openvino_cpu")}
    for name, own in (("onnx_cpu", "onnx/lm_step_fused.onnx"), ("openvino_cpu", "openvino/")):
        require_all_graphs(voices[name], bundle)
        assert any(file.startswith(own) for file in facts_of(voices[name], bundle).files)
    (bundle / "onnx" / "lm_step.onnx").write_bytes(b"another graph")
    # A port need not compare a bundle with its manifest; the built-in backends do.
    with pytest.raises(Misfit, match=r"does not run onnx/lm_step\.onnx"):
        require_all_graphs(stub(files=[bundle / "onnx" / "decoder.onnx"]), bundle)
    with pytest.raises(ModelError, match=r"lm_step\.onnx"):
        open_backend("onnx_cpu", bundle)
    (bundle / "onnx" / "lm_step_fused.onnx").unlink()
    list_again(bundle)
    for name in ("onnx_cpu", STANDARD):  # no graph is written in place of one that is damaged
        with pytest.raises(ModelError, match=r"lm_step\.onnx"):
            open_backend(name, bundle)


def test_fixture_models_are_judged_besides_the_models_named(tmp_path):
    named = str(shutil.copytree(MODEL, tmp_path / "mine"))
    chosen = select(config_of(backend=["onnx_cpu"], model=[named]))
    others = sorted(set(MODELS) - {"v11"})  # whose weights the model named has
    assert [model.name for model in chosen.models("onnx_cpu")] == ["mine", *others]
    alone = select(config_of(backend=["onnx_cpu"], model=[named], only_model=True))
    assert [model.name for model in alone.models("onnx_cpu")] == ["mine"]
    assert alone.not_covered == {"onnx_cpu": dict.fromkeys(others, "--only-model")}
    every = select(config_of(backend=["onnx_cpu"]))
    assert [model.name for model in every.models("onnx_cpu")] == sorted(MODELS)


def test_models_of_one_name_are_told_apart(tmp_path):
    """The weights differ, so that the fixture model is judged too."""
    named = shutil.copytree(MODELS["v10"], tmp_path / "v11")
    chosen = select(config_of(backend=["onnx_cpu"], model=[str(named)]))
    labels = {chosen.label(model) for model in chosen.models("onnx_cpu")}
    assert {f"{tmp_path.name}-v11", f"{MODEL.parent.name}-v11"} < labels
    assert len(labels) == len(chosen.models("onnx_cpu"))


def test_a_graph_outside_the_models_of_a_folder_is_refused(tmp_path):
    shutil.copytree(MODEL, tmp_path / "v11")
    select(config_of(backend=["onnx_cpu"], model=[str(tmp_path)]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(pytest.UsageError, match=r"model\.onnx is in no model folder"):
        select(config_of(backend=["onnx_cpu"], model=[str(tmp_path)]))


def test_fixture_models_that_a_port_cannot_open_are_not_covered():
    def open_port(name, model, precision, threads):
        if model.name not in ("v10", "v11"):
            raise ValueError(f"{model.name} has\nanother geometry")
        return stub()

    subject, opening = Subject(open_backend=open_port), []
    config = config_of(backend=["my:port"], model=[str(MODEL)])
    chosen = select(config)
    open_each(config, subject, chosen, opening.append)
    assert [model.name for model in chosen.models("my:port")] == ["v11", "v10"]
    assert set(chosen.not_covered["my:port"]) == {"heads", "n600", "nano"}
    assert chosen.not_covered["my:port"]["nano"] == "ValueError: nano has another geometry"
    assert opening[0] == "v11 on my:port"
    assert opening[-1] == ""
    named = config_of(backend=["my:port"], model=[str(MODELS["heads"])])
    with pytest.raises(pytest.UsageError, match="my:port cannot open heads: ValueError: heads has"):
        open_each(named, subject, select(named), opening.append)


def test_the_report_names_what_was_not_covered(tmp_path):
    command = [sys.executable, "-m", "conformance", "run", "--requirement", "LM-04"]
    command += ["--backend", "onnx_cpu", "--model", str(MODEL), "--only-model"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "not covered: onnx_cpu on heads, n600, nano, v10 (--only-model)" in result.stdout
    path = tmp_path / "conformance-report" / "conformance.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert set(written["not_covered"]["onnx_cpu"]) == set(MODELS) - {"v11"}
    assert set(written["files"]["onnx_cpu-v11"]) == {"decoder.safetensors", "model.safetensors"}
