"""EX: exported bundles are complete, reproducible, standard ONNX and checked before they exist."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.backends import open_backend
from soprano.errors import BackendError, ModelError

SOURCE = {path.name: path for path in fixture_models()}

FUSED = "onnx/lm_step_fused.onnx"
STANDARD = "soprano.backends.onnx_standard:StandardOnnxBackend"


@pytest.fixture(scope="module", autouse=True)
def runtime():
    for library in ("onnx", "onnxruntime"):
        pytest.importorskip(library)


def export(*arguments, **options):
    from soprano.export.bundle import export_bundle

    return export_bundle(*arguments, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export(SOURCE["v11"], tmp_path_factory.mktemp("export") / "bundle", to="onnx")


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def judge_files(judge, actual, expected):
    """Judge that two folders hold the same files."""
    actual, expected = files(actual), files(expected)
    judge.equal("names", sorted(actual), sorted(expected))
    for name, content in expected.items():
        digests = [hashlib.sha256(data).hexdigest() for data in (actual[name], content)]
        judge.equal(name, *digests)


@pytest.mark.requirement("EX-01")
def test_the_manifest_names_every_file_with_its_hash_and_size(judge, bundle):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    expected = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in files(bundle).items()
        if name != "manifest.json"
    }
    judge.equal("names", sorted(manifest["files"]), sorted(expected))
    for name, entry in expected.items():
        judge.equal(name, sorted(manifest["files"][name].items()), sorted(entry.items()))


@pytest.mark.requirement("EX-02")
def test_a_second_export_gives_the_same_bytes(judge, bundle, tmp_path):
    judge_files(judge, export(SOURCE["v11"], tmp_path / "again", to="onnx"), bundle)


@pytest.mark.requirement("EX-03")
def test_graphs_are_standard_onnx_with_dynamic_axes(judge, bundle):
    import onnx

    for path in sorted(set((bundle / "onnx").glob("*.onnx")) - {bundle / FUSED}):
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path, load_external_data=False)
        judge.equal("domains", sorted({node.domain for node in model.graph.node}), [""])
        judge.below("opset", model.opset_import[0].version, 20, wrong=21)
        judge.below("IR version", model.ir_version, 10, wrong=11)
        for value in [*model.graph.input, *model.graph.output]:
            dims = value.type.tensor_type.shape.dim
            judge.equal(f"{value.name}: first axis", dims[0].dim_param, "batch")
            # KV cache and spectrum have four axes, ids and hidden states two or three.
            length = dims[2] if len(dims) == 4 else dims[1]
            judge.equal(f"{value.name}: the length is dynamic", bool(length.dim_param), True)


@pytest.mark.requirement("EX-09")
def test_a_fused_graph_is_written_beside_the_standard_one(judge, bundle):
    import onnx

    graph = onnx.load(bundle / FUSED, load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    judge.equal("attention is one operator", "GroupQueryAttention" in operators, True)
    on_cache = {node.op_type for node in graph.node if "past" in "".join(node.input)}
    judge.equal("the KV cache is copied", "Concat" in on_cache, False)
    files = {d.value for t in graph.initializer for d in t.external_data if d.key == "location"}
    judge.equal("weights", sorted(files), ["model.safetensors"])
    fused = open_backend("onnx_cpu", bundle)
    judge.equal("runs", fused.attest()["graph"].value, "fused operators")
    standard = open_backend(STANDARD, bundle)
    judge.equal("runs beside it", standard.attest()["graph"].value, "standard operators")


@pytest.mark.requirement("EX-04")
def test_language_model_graph_has_the_names_of_community_exports(judge, bundle):
    import onnx

    graph = onnx.load(bundle / "onnx" / "lm_step.onnx", load_external_data=False).graph
    layers = open_backend("onnx_cpu", bundle).config.language_model.num_hidden_layers
    cache = [f"{i}.{part}" for i in range(layers) for part in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids"]
    inputs += [f"past_key_values.{name}" for name in cache]
    outputs = ["logits", "last_hidden_state", *(f"present.{name}" for name in cache)]
    judge.equal("inputs", [value.name for value in graph.input], inputs)
    judge.equal("outputs", [value.name for value in graph.output], outputs)


@pytest.mark.requirement("EX-05")
def test_one_network_can_be_exported_alone(judge, tmp_path):
    for part, own, other in (("lm", "lm_step", "decoder"), ("decoder", "decoder", "lm_step")):
        folder = export(SOURCE["n600"], tmp_path / part, to="onnx", part=part)
        judge.equal(f"{own} exists", (folder / "onnx" / f"{own}.onnx").is_file(), True)
        judge.equal(f"{other} exists", (folder / "onnx" / f"{other}.onnx").exists(), False)
    decoder = open_backend("onnx_cpu", tmp_path / "decoder")
    language_model = open_backend("onnx_cpu", tmp_path / "lm")
    judge.refuses(
        "prefill",
        lambda: decoder.prefill(np.array([[3]]), np.array([1])),
        ModelError,
        accepts=lambda: language_model.prefill(np.array([[3]]), np.array([1])),
    )
    hidden = np.zeros((1, 2, decoder.config.language_model.hidden_size), np.float32)
    judge.equal("decode", decoder.decode(hidden, np.array([2])).shape, (1, 301, 5, 2))


@pytest.mark.requirement("EX-06")
def test_a_bundle_works_after_it_is_moved(judge, tmp_path, bundle):
    before = open_backend("onnx_cpu", bundle)
    moved = open_backend("onnx_cpu", shutil.copytree(bundle, tmp_path / "elsewhere"))
    ids, lengths = np.array([[3, 1, 50, 2]]), np.array([4])
    judge.bits("logits", moved.prefill(ids, lengths).logits, before.prefill(ids, lengths).logits)


@pytest.mark.requirement("EX-07")
def test_a_failed_export_leaves_the_target_unchanged(judge, tmp_path, monkeypatch):
    from soprano.export import bundle as module

    target = export(SOURCE["v10"], tmp_path / "bundle", to="onnx")
    before = files(target)

    def broken(*_):
        raise ModelError("the trial run failed")

    monkeypatch.setattr(module, "trial_run", broken)
    judge.refuses(
        "export",
        lambda: export(SOURCE["v10"], target, to="onnx"),
        ModelError,
        accepts=lambda: open_backend("onnx_cpu", target),
    )
    judge.equal("names", sorted(files(target)), sorted(before))
    with pytest.raises(ModelError):
        export(SOURCE["v10"], tmp_path / "new", to="onnx")
    judge.equal("folders", [path.name for path in tmp_path.iterdir()], ["bundle"])


@pytest.mark.requirement("EX-08")
def test_half_precision_rounds_each_weight_once_and_is_no_fp32_bundle(judge, tmp_path):
    from safetensors.numpy import load_file

    folder = export(SOURCE["v10"], tmp_path / "half", to="onnx", precision="fp16")
    weights = load_file(folder / "onnx" / "decoder.safetensors")
    for name, values in load_file(SOURCE["v10"] / "decoder.safetensors").items():
        judge.bits(name, weights[name], values.astype(np.float16))
    judge.refuses(
        "as fp32",
        lambda: open_backend("onnx_cpu", folder),
        BackendError,
        accepts=lambda: open_backend("onnx_cpu", folder, precision="fp16"),
    )
    opened = open_backend("onnx_cpu", folder, precision="fp16")
    judge.equal("precision", opened.capabilities.precision, "fp16")


@pytest.mark.requirement("EX-10")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantised_bundle_is_reproducible_and_is_no_fp32_bundle(judge, tmp_path, precision):
    first, second = (
        export(SOURCE["v11"], tmp_path / name, to="onnx", precision=precision)
        for name in ("first", "second")
    )
    judge_files(judge, second, first)
    judge.refuses(
        "as fp32",
        lambda: open_backend("onnx_cpu", first),
        BackendError,
        accepts=lambda: open_backend("onnx_cpu", first, precision),
    )
    attested = open_backend("onnx_cpu", first, precision).attest()
    matmuls = dict(entry.split() for entry in attested["weights"].value.split(", "))
    judge.equal("matmuls in float32", matmuls["float32"], "1")  # the decoder's head
    judge.equal("quantised matmuls", precision in matmuls, True)
