"""CK: checkpoints in the layout of MLX, and language models in GGUF files."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from conformance.golden.packs import fixture_models
from soprano.backends import open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError

from .checkpoints import SOURCE, change_config, judge_weights, read_weights

NANO = next(path for path in fixture_models() if path.name == "nano")
TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
GROUP, BITS = 8, 4


def quantised(values):
    """Codes, scales and biases of a matrix in groups of 8 columns, as MLX packs them."""
    groups = values.reshape(len(values), -1, GROUP).astype(np.float64)
    biases = groups.min(axis=-1, keepdims=True)
    scales = (groups.max(axis=-1, keepdims=True) - biases) / (2**BITS - 1)
    scales, biases = scales.astype(np.float32), biases.astype(np.float32)
    codes = np.rint((groups - biases) / scales).astype(np.uint32)
    packed = sum(codes.reshape(len(values), -1, 8)[..., i] << (BITS * i) for i in range(8))
    exact = (codes.astype(np.float32) * scales + biases).reshape(values.shape)
    return {
        "weight": packed.astype(np.uint32),
        "scales": scales[..., 0],
        "biases": biases[..., 0],
    }, exact


def write_mlx(folder, quantise=True):
    """A checkpoint as MLX writes it, and the weights that it holds."""
    folder.mkdir()
    for name in TEXTS:
        shutil.copyfile(SOURCE / name, folder / name)
    language_model, decoder = read_weights(SOURCE)
    tensors, held = {}, {}
    for name, values in language_model.items():
        own = f"language_model.{name.removeprefix('model.')}"
        if quantise and values.ndim == 2:
            parts, held[name] = quantised(values)
            module = own.removesuffix("weight")
            tensors |= {f"{module}{part}": array for part, array in parts.items()}
        else:
            tensors[own] = held[name] = values
    for name, values in decoder.items():
        kernel = values.swapaxes(1, 2) if values.ndim == 3 else values
        tensors[f"decoder.{name}"] = np.ascontiguousarray(kernel)
    save_file(tensors, folder / "model.safetensors")
    if quantise:
        stated = {"group_size": GROUP, "bits": BITS}
        change_config(folder, quantization=stated, quantization_config=stated)
    return held, decoder


@pytest.mark.requirement("CK-19")
@pytest.mark.parametrize("quantise", [True, False])
def test_an_mlx_checkpoint_has_the_weights_that_it_holds(judge, tmp_path, quantise):
    expected = write_mlx(tmp_path / "mlx", quantise)
    for actual, wanted in zip(read_weights(tmp_path / "mlx"), expected, strict=True):
        judge_weights(judge, actual, wanted)
    judge.equal("has weights", ModelFolder.open(tmp_path / "mlx").has_weights, True)


@pytest.mark.requirement("CK-19")
def test_an_mlx_checkpoint_runs(judge, tmp_path):
    pytest.importorskip("onnxruntime")
    write_mlx(tmp_path / "mlx", quantise=False)
    ids, lengths = np.array([[3, 1, 50, 2]]), np.array([4])
    opened = [open_backend("onnx_cpu", path) for path in (tmp_path / "mlx", SOURCE)]
    judge.bits("logits", *(each.prefill(ids, lengths).logits for each in opened))
    names = [path.name for path in opened[0].files]
    judge.equal("files", names, ["model.safetensors"])


@pytest.mark.requirement("CK-19")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "mxfp4"}, "quantization.mode must be 'affine', got 'mxfp4'"),
        ({"bits": 6}, ": bits must be 2, 4 or 8, got 6"),
        ({"bits": None}, "missing number 'quantization.bits'"),
        ({"group_size": 12}, "in groups of 12 do not fit scales"),
        ("language_model.layers.1.mlp.up_proj.scales", "missing tensor .*up_proj.scales"),
        ("language_model.norm.weight", "missing tensor model.norm.weight"),
    ],
)
def test_what_an_mlx_checkpoint_lacks_is_named(judge, tmp_path, change, named):
    from safetensors.numpy import load_file

    write_mlx(tmp_path / "mlx")
    if isinstance(change, dict):
        stated = {"group_size": GROUP, "bits": BITS, **change}
        change_config(tmp_path / "mlx", quantization=stated, quantization_config=stated)
    else:
        tensors = load_file(tmp_path / "mlx" / "model.safetensors")
        del tensors[change]
        save_file(tensors, tmp_path / "mlx" / "model.safetensors")
    with pytest.raises(ModelError, match=named) as error:
        ModelFolder.open(tmp_path / "mlx").language_model_weights()
    judge.equal("one sentence", "\n" in str(error.value), False)


@pytest.fixture
def export_gguf():
    pytest.importorskip("gguf")
    from soprano.export.gguf import export_gguf

    return export_gguf


@pytest.mark.requirement("CK-20")
def test_a_gguf_file_holds_the_weights_of_its_checkpoint(judge, tmp_path, export_gguf):
    folder = export_gguf(SOURCE, tmp_path / "f32")
    for actual, wanted in zip(read_weights(folder), read_weights(SOURCE), strict=True):
        judge_weights(judge, actual, wanted)
    half = read_weights(export_gguf(SOURCE, tmp_path / "f16", precision="fp16"))[0]
    for name, values in read_weights(SOURCE)[0].items():
        matrix = values.ndim == 2
        wanted = values.astype(np.float16).astype(np.float32) if matrix else values
        judge.bits(name, half[name], wanted)


@pytest.mark.requirement("CK-20")
def test_quantised_blocks_of_a_gguf_file_are_widened(judge, tmp_path, export_gguf):
    name = "model.layers.0.mlp.up_proj.weight"
    wanted = read_weights(NANO)[0][name]
    blocks = wanted.reshape(len(wanted), -1, 32)
    for precision, levels in (("int8", 127), ("int4", 8)):
        folder = export_gguf(NANO, tmp_path / precision, precision=precision)
        actual = read_weights(folder)[0][name]
        judge.shape(name, actual, wanted.shape)
        # Half a step, and a step at the highest level of 4 bits; scales are in half precision.
        steps = np.abs(blocks).max(axis=2) / levels * (1 if precision == "int4" else 0.5) * 1.2
        error = np.abs(actual - wanted).reshape(blocks.shape).max(axis=2)
        worst = float((error / steps).max())
        judge.below(f"{precision}: steps off", worst, 1.0, wrong=float(2 * levels))


@pytest.mark.requirement("CK-20")
def test_a_gguf_file_that_is_not_of_the_model_is_rejected_by_name(judge, tmp_path, export_gguf):
    pytest.importorskip("onnxruntime")
    folder = export_gguf(SOURCE, tmp_path / "gguf")
    runs = open_backend("onnx_cpu", folder).files
    judge.equal("files", [path.name for path in runs], ["decoder.safetensors", "model.gguf"])
    change_config(folder, rope_theta=20000.0)
    with pytest.raises(ModelError, match=r"rope.freq_base=10000.0, config.json has 20000"):
        ModelFolder.open(folder).language_model_weights()
    (folder / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="both a GGUF file"):
        ModelFolder.open(folder).language_model_weights()
    (folder / "model.gguf").unlink()
    with pytest.raises(ModelError, match=r"other.gguf is not a GGUF file"):
        ModelFolder.open(folder).language_model_weights()
