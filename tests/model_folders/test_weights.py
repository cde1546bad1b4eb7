"""CK: the weights of a checkpoint folder, in every format; damaged files are rejected."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from soprano.backends import installed_backends, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.pickled import read_state_dict
from soprano.errors import ModelError

from .checkpoints import SOURCE, change_config, judge_weights, read_weights


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(SOURCE, tmp_path / "copy")


@pytest.fixture
def backend_names():
    """The PyTorch backend and the faster to open of the two that run ONNX graphs."""
    return [name for name in installed_backends() if name in ("onnx_cpu", "pytorch")]


@pytest.mark.requirement("CK-05")
def test_folder_name_has_no_effect(judge, copy):
    renamed = copy.rename(copy.parent / "Soprano-v1.0")
    judge.equal(
        "config", repr(ModelFolder.open(renamed).config), repr(ModelFolder.open(SOURCE).config)
    )


@pytest.mark.requirement("CK-06")
def test_sharded_weights_are_read_as_one_file(judge, copy):
    whole = ModelFolder.open(SOURCE).language_model_weights()
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    shards = {
        name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(sorted(tensors))
    }
    for shard in set(shards.values()):
        save_file({n: tensors[n] for n, own in shards.items() if own == shard}, copy / shard)
    index = {"metadata": {}, "weight_map": shards}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    judge_weights(judge, ModelFolder.open(copy).language_model_weights(), whole)


def write_safetensors(path, tensors):
    """Write (type, shape, bytes) by name, for types that NumPy does not have."""
    header, offset = {}, 0
    for name, (kind, shape, raw) in tensors.items():
        offsets = [offset, offset + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        offset += len(raw)
    text = json.dumps(header).encode()
    data = b"".join(raw for _, _, raw in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def all_finite_values(kind):
    """All finite values of a 16-bit type, subnormal ones included."""
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(np.float16) if kind == "F16" else bits
    exponent = 0x7C00 if kind == "F16" else 0x7F80
    return values[(bits & exponent) != exponent]


@pytest.mark.requirement("CK-07")
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_bfloat16_and_float16_are_converted_exactly(judge, copy, kind):
    finite = all_finite_values("F16" if kind == "F16" else "BF16")
    written, expected = {}, {}
    for i, (name, values) in enumerate(sorted(load_file(copy / "model.safetensors").items())):
        chosen = np.resize(np.roll(finite, -i * 97), values.shape)
        bits = chosen.view(np.uint16).astype(np.int64)
        expected[name] = values_of_bits(bits, *((5, 10) if kind == "F16" else (8, 7)))
        raw = expected[name].astype("<f4").tobytes() if kind == "F32" else chosen.tobytes()
        written[name] = (kind, values.shape, raw)
    write_safetensors(copy / "model.safetensors", written)
    judge_weights(judge, ModelFolder.open(copy).language_model_weights(), expected)


def values_of_bits(bits, exponent_bits, fraction_bits):
    """The values that sign, exponent and fraction define."""
    sign = np.where(bits >> 15, -1.0, 1.0)
    exponent = (bits >> fraction_bits) & (2**exponent_bits - 1)
    fraction = (bits & (2**fraction_bits - 1)) / 2.0**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    scale = np.ldexp(1.0, np.maximum(exponent, 1) - bias)
    return (sign * scale * (fraction + (exponent > 0))).astype(np.float32)


@pytest.mark.requirement("CK-10")
def test_tied_embeddings_may_be_stored_once_or_twice(judge, copy, backend_names):
    tensors = load_file(copy / "model.safetensors")
    del tensors["lm_head.weight"]
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    logits = {}
    for form, tied, added in (("once", True, {}), ("twice", True, head), ("untied", False, head)):
        change_config(copy, tie_word_embeddings=tied)
        save_file({**tensors, **added}, copy / "model.safetensors")
        for name in backend_names:
            opened = open_backend(name, copy)
            logits[form, name] = opened.prefill(np.array([[3, 1, 20, 2]]), np.array([4])).logits
    for (form, name), values in logits.items():
        judge.equal(f"{form} on {name}: zeros", int((values == 0).sum()), 0)
        if form != "once":
            judge.bits(f"{form} on {name}", values, logits["once", name])


@pytest.mark.requirement("CK-11")
@pytest.mark.parametrize(
    ("stem", "name", "shape"),
    [
        ("model", "model.norm.weight", None),
        ("model", "lm_head.weight", None),
        ("model", "model.layers.2.mlp.up_proj.weight", (42, 24)),
        ("model", "model.layers.3.mlp.up_proj.weight", (40, 24)),
        ("model", "model.layers.0.self_attn.q_proj.bias", (24,)),
        ("decoder", "decoder.norm.bias", None),
        ("decoder", "head.out.bias", (129,)),
        ("decoder", "decoder.convnext.3.gamma", (31,)),
        ("decoder", "decoder.unheard_of", (3,)),
    ],
)
def test_missing_unknown_or_misshapen_tensor_is_rejected_by_name(judge, copy, stem, name, shape):
    path = copy / f"{stem}.safetensors"
    tensors = load_file(path)
    tensors.pop(name, None)
    if shape:
        tensors[name] = np.zeros(shape, np.float32)
    save_file(tensors, path)
    message = judge.refuses(
        name,
        lambda: read_weights(copy),
        ModelError,
        accepts=lambda: read_weights(SOURCE),
    )
    judge.equal("named", re.search(r"[\w.]+\.(weight|bias|gamma|unheard_of)", message)[0], name)


@pytest.mark.requirement("CK-11")
@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 4},
        {"vocab_size": 93},
        {"intermediate_size": 42},
        {"num_attention_heads": 2},
        {"tie_word_embeddings": True, "vocab_size": 90},
    ],
    ids=str,
)
def test_config_of_another_model_is_rejected(judge, copy, change):
    change_config(copy, **change)
    judge.refuses(
        str(change),
        lambda: read_weights(copy),
        ModelError,
        accepts=lambda: read_weights(SOURCE),
    )


@pytest.mark.requirement("CK-11")
def test_no_backend_opens_with_fewer_layers_than_the_weights(judge, copy, backend_names):
    # A graph of fewer layers would run and give noise.
    change_config(copy, num_hidden_layers=1)
    for name in backend_names:
        judge.refuses(
            name,
            lambda b=name: open_backend(b, copy),
            ModelError,
            accepts=lambda b=name: open_backend(b, SOURCE),
        )


@pytest.mark.requirement("CK-12")
def test_tables_saved_by_training_code_are_ignored(judge, copy):
    for stem, name in (
        ("model", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("decoder", "head.istft.window"),
    ):
        tensors = load_file(copy / f"{stem}.safetensors")
        save_file({**tensors, name: np.ones(3, np.float32)}, copy / f"{stem}.safetensors")
    for actual, expected in zip(read_weights(copy), read_weights(SOURCE), strict=True):
        judge_weights(judge, actual, expected)


@pytest.mark.requirement("CK-08")
def test_pickled_decoder_is_read_as_plain_tensors_and_safetensors_are_preferred(judge, copy):
    torch = pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
    expected = ModelFolder.open(SOURCE).decoder_weights()
    state = {name: torch.tensor(values) for name, values in expected.items()}
    state["head.istft.window"] = torch.ones(128)
    torch.save({name: tensor * 2 for name, tensor in state.items()}, copy / "decoder.pth")
    judge_weights(judge, ModelFolder.open(copy).decoder_weights(), expected)
    torch.save(state, copy / "decoder.pth")
    (copy / "decoder.safetensors").unlink()
    judge_weights(judge, ModelFolder.open(copy).decoder_weights(), expected)
    judge.equal(
        "config", repr(ModelFolder.open(copy).config), repr(ModelFolder.open(SOURCE).config)
    )


@pytest.mark.requirement("CK-08")
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "float64"])
def test_tensors_of_a_pickle_may_be_of_any_type_and_share_a_storage(judge, tmp_path, kind):
    torch = pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
    whole = torch.randn(3, 200, 300, generator=torch.Generator().manual_seed(1))
    whole = whole.to(getattr(torch, kind))
    views = {"whole": whole, "again": whole, "row": whole[1], "transposed": whole[2].T}
    for number, state in enumerate((views, {"alone": whole.clone()})):
        path = tmp_path / f"{number}.pth"
        torch.save(state, path)
        for name, values in read_state_dict(path).items():
            judge.bits(f"{kind}: {name}", values, state[name].float().contiguous().numpy())


@pytest.mark.requirement("CK-09")
def test_damaged_weights_are_rejected(judge, copy):
    path = copy / "decoder.safetensors"
    content = path.read_bytes()
    for name, damaged in (
        ("half", content[: len(content) // 2]),
        ("one byte short", content[:-1]),
        ("header only", content[:8]),
        ("empty", b""),
        ("no JSON", content[:8] + b"x" + content[9:]),
    ):
        path.write_bytes(damaged)
        judge.refuses(
            name,
            lambda: ModelFolder.open(copy).decoder_weights(),
            ModelError,
            accepts=lambda: ModelFolder.open(SOURCE).decoder_weights(),
        )
