"""EX, CK: folders in the layout of community exports, ours and those that other tools write."""

import json
import shutil

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano import SopranoTTS
from soprano.backends import open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.tensors import Tensor
from soprano.errors import BackendError, ModelError

MODELS = {path.name: path for path in fixture_models()}
IDS, HIDDEN_TOKENS = [3, 1, 50, 2], 6
LANGUAGE_MODEL, DECODER = "soprano_backbone_kv_fp32.onnx", "soprano_decoder_fp32.onnx"
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module", autouse=True)
def runtime():
    pytest.importorskip("onnxruntime")


def export(model, folder, **options):
    from soprano.export.bundle import export_bundle

    return export_bundle(MODELS[model], folder, layout="community", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export("v11", tmp_path_factory.mktemp("community") / "v11")


@pytest.fixture(scope="module")
def hidden():
    width = ModelFolder.open(MODELS["v11"]).config.language_model.hidden_size
    return np.random.default_rng(0).normal(size=(1, HIDDEN_TOKENS, width)).astype(np.float32)


def outputs(backend, hidden):
    """Logits and hidden state after a prefill and after a step, and samples."""
    first = backend.prefill(np.array([IDS]), np.array([len(IDS)]))
    second = backend.step(np.array([7]), first.state)
    samples = backend.decode_audio(hidden, np.array([HIDDEN_TOKENS]))
    return [first.logits, first.hidden, second.logits, second.hidden, samples]


@pytest.mark.requirement("EX-11")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_community_layout_has_the_public_names_and_orders(judge, tmp_path, precision):
    folder = export("v10", tmp_path / "v10", precision=precision)
    paths = sorted((folder / "onnx").iterdir())
    stems = [f"soprano_{name}_{precision}" for name in ("backbone_kv", "decoder")]
    judge.equal("files", [path.name for path in paths], [f"{stem}.onnx" for stem in stems])
    language_model, decoder = (onnx.load(path).graph for path in paths)
    cache = [f"{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids"]
    inputs += [f"past_key_values.{name}" for name in cache]
    judge.equal("inputs", [value.name for value in language_model.input], inputs)
    names = ["logits", *(f"present.{name}" for name in cache), "last_hidden_state"]
    judge.equal("outputs", [value.name for value in language_model.output], names)
    dims = [d.dim_param or d.dim_value for d in decoder.input[0].type.tensor_type.shape.dim]
    judge.equal("hidden states", dims, ["batch", 24, "tokens"])
    judge.equal("the decoder's output", [value.name for value in decoder.output], ["audio"])
    opened = open_backend("onnx_cpu", folder, precision)
    judge.equal("spectrum", opened.capabilities.spectrum, False)


@pytest.mark.requirement("EX-11")
def test_community_folder_speaks_as_the_checkpoint(judge, folder):
    options = {"temperature": 0.0, "max_new_tokens": 12}
    audio, expected = (
        SopranoTTS(model, "onnx_cpu").infer("Hello world.", **options)
        for model in (folder, MODELS["v11"])
    )
    ids = [each.sentences[0].token_ids for each in (audio, expected)]
    judge.equal("ids", *ids)
    judge.shape("samples", audio.samples, expected.samples.shape)
    error = float(np.abs(audio.samples - expected.samples).max())
    judge.below(
        "samples", error, 1e-5, len(audio.samples), wrong=float(np.abs(audio.samples).max())
    )


def without_input(graph, name):
    """The graph computes an input itself, as exports do that lack it."""
    kept = [value for value in graph.input if value.name != name]
    del graph.input[:]
    graph.input.extend(kept)
    nodes = []

    def op(kind, *inputs, to, **attributes):
        nodes.append(onnx.helper.make_node(kind, inputs, [to], **attributes))
        return to

    def size(value, axis, to):
        return op("Shape", value, to=to, start=axis, end=axis + 1)

    past = size("past_key_values.0.key", 2, "past")
    total = op("Add", past, size("input_ids", 1, "new"), to="total")
    if name == "attention_mask":
        shape = op("Concat", size("input_ids", 0, "rows"), total, to="mask_shape", axis=0)
        one = onnx.numpy_helper.from_array(np.ones(1, np.int64))
        op("ConstantOfShape", shape, to=name, value=one)
    else:
        axes = {"zero": np.array([0]), "unit": np.array(1)}
        graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in axes.items())
        bounds = (op("Squeeze", end, to=f"{end}_scalar") for end in (past, total))
        row = op("Range", *bounds, "unit", to="positions")
        op("Unsqueeze", row, "zero", to=name)
    every = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(every)


VARIANTS = {
    "no attention mask": lambda model: without_input(model.graph, "attention_mask"),
    "no positions": lambda model: without_input(model.graph, "position_ids"),
}


@pytest.mark.requirement("EX-12")
@pytest.mark.parametrize("name", VARIANTS)
def test_graphs_without_a_mask_or_positions_run(judge, tmp_path, folder, hidden, name):
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest*"))
    model = onnx.load(copy / "onnx" / LANGUAGE_MODEL)
    VARIANTS[name](model)
    onnx.save(model, copy / "onnx" / LANGUAGE_MODEL)
    both = (outputs(open_backend("onnx_cpu", each), hidden) for each in (copy, folder))
    for actual, expected in zip(*both, strict=True):
        judge.bits(name, actual, expected)


@pytest.mark.requirement("EX-12")
def test_file_names_folders_external_data_and_the_manifest_do_not_matter(
    judge, tmp_path, folder, hidden
):
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest*"))
    for name, new in ((LANGUAGE_MODEL, "model.onnx"), (DECODER, "decoder.onnx")):
        model = onnx.load(copy / "onnx" / name)
        (copy / "onnx" / name).unlink()
        options = {"location": f"{new}.data", "size_threshold": 256}
        onnx.save(model, copy / new, save_as_external_data=True, **options)
    opened = open_backend("onnx_cpu", copy)
    both = (outputs(each, hidden) for each in (opened, open_backend("onnx_cpu", folder)))
    for actual, expected in zip(*both, strict=True):
        judge.bits("output", actual, expected)
    names = ["model.onnx", "model.onnx.data", "decoder.onnx", "decoder.onnx.data"]
    judge.equal("files", [path.name for path in opened.files], names)


def to_half(folder):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for name in (LANGUAGE_MODEL, DECODER):
        model = convert_float_to_float16(onnx.load(folder / "onnx" / name))
        onnx.save(model, folder / "onnx" / name.replace("fp32", "fp16"))


def to_int8(folder):
    from onnxruntime.quantization import quantize_dynamic

    path = folder / "onnx" / LANGUAGE_MODEL
    quantize_dynamic(path, path.with_name(LANGUAGE_MODEL.replace("fp32", "int8")))


@pytest.mark.requirement("EX-12")
@pytest.mark.parametrize("convert", [to_half, to_int8])
def test_the_class_of_graphs_of_other_tools_is_read_from_their_weights(
    judge, tmp_path, folder, hidden, convert
):
    pytest.importorskip("onnxruntime.quantization")
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest*"))
    convert(copy)
    precision = convert.__name__.removeprefix("to_").replace("half", "fp16")
    offered = ModelFolder.open(copy).community_graphs
    judge.equal("classes", sorted(offered.pairs), sorted(["fp32", precision]))
    opened = open_backend("onnx_cpu", copy, precision)
    rounds = "int8" if precision == "int8" else "float32"
    coarse = [graph.per_tensor for graph in offered.pairs[precision]]
    judge.equal("one scale for each matrix", coarse, [precision == "int8", False])
    judge.equal("activations", opened.capabilities.activations, rounds)
    expected = outputs(open_backend("onnx_cpu", copy), hidden)
    for actual, wanted in zip(outputs(opened, hidden), expected, strict=True):
        # How large an error may be is judged by the suite; here, whether it is the same output.
        error, wrong = (float(np.abs(each - wanted).max()) for each in (actual, -actual))
        judge.below("error", error, float(np.abs(wanted).max()), wrong=wrong)
    for path in (copy / "onnx").glob("*fp32*"):
        path.rename(path.with_name(path.name.replace("_fp32", "")))
    judge.refuses(
        "another class",
        lambda: open_backend("onnx_cpu", copy, "int4"),
        BackendError,
        accepts=lambda: open_backend("onnx_cpu", copy, precision),
    )


@pytest.mark.requirement("EX-12")
@pytest.mark.parametrize("name", ["last_hidden_state", "present.1.key", "logits"])
def test_a_language_model_without_an_output_is_rejected_by_its_name(judge, tmp_path, folder, name):
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest*"))
    model = onnx.load(copy / "onnx" / LANGUAGE_MODEL)
    kept = [value for value in model.graph.output if value.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, copy / "onnx" / LANGUAGE_MODEL)
    with pytest.raises(ModelError, match=name) as error:
        open_backend("onnx_cpu", copy)
    judge.equal("it names the file", LANGUAGE_MODEL in str(error.value), True)


@pytest.mark.requirement("EX-12")
@pytest.mark.parametrize(("dim", "kernel"), [(512, 3), (768, 1)])
def test_a_published_decoder_is_recognised_by_the_shapes_in_its_graph(
    judge, tmp_path, folder, dim, kernel
):
    from soprano.checkpoint.tensors import decoder_shapes
    from soprano.config import DecoderConfig
    from soprano.onnx_graphs.decoder import audio_decoder_graph

    config = DecoderConfig(
        sample_rate=32000, n_fft=2048, hop_length=512, win_length=2048, frames_per_token=4,
        input_size=512, dim=dim, intermediate_dim=3 * dim, num_layers=8,
        input_kernel_size=kernel, kernel_size=3,
    )  # fmt: skip
    # Only shapes are read: the file of the weights does not exist.
    weights = {
        name: Tensor(tmp_path / "weights", "F32", shape, 0, 4 * int(np.prod(shape)))
        for name, shape in decoder_shapes(config).items()
    }
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest*"))
    graph = audio_decoder_graph(config, weights)
    (copy / "onnx" / DECODER).write_bytes(graph.SerializeToString())
    document = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    del document["soprano_decoder"]
    document["hidden_size"] = 512
    (copy / "config.json").write_text(json.dumps(document), encoding="utf-8")
    judge.equal("config", ModelFolder.open(copy).config.decoder, config)
