"""Checkpoint folders: every way to store the weights is read exactly, damage is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from soprano.backends import installed_backends, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError
from tests.checkpoints import SOURCE, rewrite, same_weights, weights_of


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "copy"))


@pytest.fixture
def backend_names() -> list[str]:
    """The reference, and the quicker to open of the two that run its graphs."""
    return [name for name in installed_backends() if name in ("onnx_cpu", "pytorch")]


@pytest.mark.requirement("CK-05")
def test_the_name_of_the_folder_means_nothing(judge, copy):
    renamed = copy.rename(copy.parent / "Soprano-v1.0")
    judge.equal(
        "config", repr(ModelFolder.open(renamed).config), repr(ModelFolder.open(SOURCE).config)
    )


@pytest.mark.requirement("CK-06")
def test_shards_are_read_as_one_file(judge, copy):
    whole = ModelFolder.open(SOURCE).language_model_weights()
    stored = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    places = {}
    for i, name in enumerate(sorted(stored)):
        places[name] = f"model-{i % 3 + 1:05}-of-00003.safetensors"
    for shard in set(places.values()):
        save_file({n: stored[n] for n, place in places.items() if place == shard}, copy / shard)
    index = {"metadata": {}, "weight_map": places}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    same_weights(judge, ModelFolder.open(copy).language_model_weights(), whole)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """A file by the format's definition, for types that NumPy lacks."""
    header, place = {}, 0
    for name, (kind, shape, raw) in tensors.items():
        offsets = [place, place + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        place += len(raw)
    text = json.dumps(header).encode()
    data = b"".join(raw for _, _, raw in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def every_number(kind: str) -> np.ndarray:
    """All finite numbers of 16 bits, subnormal ones included."""
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(np.float16) if kind == "F16" else bits
    exponent = 0x7C00 if kind == "F16" else 0x7F80
    return values[(bits & exponent) != exponent]


@pytest.mark.requirement("CK-07")
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_narrow_numbers_are_widened_exactly(judge, copy, kind):
    """Each value by the definition of its bits: sign, exponent, fraction."""
    stored = load_file(copy / "model.safetensors")
    halves = every_number("F16" if kind == "F16" else "BF16")
    written, expected = {}, {}
    for i, (name, values) in enumerate(sorted(stored.items())):
        chosen = np.resize(np.roll(halves, -i * 97), values.shape)
        bits = chosen.view(np.uint16).astype(np.int64)
        expected[name] = numbers_of(bits, *((5, 10) if kind == "F16" else (8, 7)))
        raw = expected[name].astype("<f4").tobytes() if kind == "F32" else chosen.tobytes()
        written[name] = (kind, values.shape, raw)
    write_safetensors(copy / "model.safetensors", written)
    same_weights(judge, ModelFolder.open(copy).language_model_weights(), expected)


def numbers_of(bits: np.ndarray, exponent_bits: int, fraction_bits: int) -> np.ndarray:
    sign = np.where(bits >> 15, -1.0, 1.0)
    exponent = (bits >> fraction_bits) & (2**exponent_bits - 1)
    fraction = (bits & (2**fraction_bits - 1)) / 2.0**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    scale = np.ldexp(1.0, np.maximum(exponent, 1) - bias)
    return (sign * scale * (fraction + (exponent > 0))).astype(np.float32)


@pytest.mark.requirement("CK-10")
def test_tied_embeddings_may_be_stored_once_or_twice(judge, copy, backend_names):
    stored = load_file(copy / "model.safetensors")
    rest = {name: values for name, values in stored.items() if name != "lm_head.weight"}
    rewrite(copy, tie_word_embeddings=True)
    logits = {}
    for way, head in (
        ("once", {}),
        ("twice", {"lm_head.weight": stored["model.embed_tokens.weight"]}),
        ("untied", {"lm_head.weight": stored["model.embed_tokens.weight"]}),
    ):
        rewrite(copy, tie_word_embeddings=way != "untied")
        save_file({**rest, **head}, copy / "model.safetensors")
        for name in backend_names:
            opened = open_backend(name, copy)
            logits[way, name] = opened.prefill(np.array([[3, 1, 20, 2]]), np.array([4])).logits
    for (way, name), values in logits.items():
        judge.equal(f"{way} on {name}: zeros", int((values == 0).sum()), 0)
        if way != "once":
            judge.same(f"{way} on {name}", values, logits["once", name])


@pytest.mark.requirement("CK-11")
@pytest.mark.parametrize(
    ("stem", "name", "change"),
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
def test_a_tensor_that_does_not_belong_is_refused_by_name(judge, copy, stem, name, change):
    path = copy / f"{stem}.safetensors"
    stored = load_file(path)
    stored.pop(name, None)
    save_file({**stored, **({name: np.zeros(change, np.float32)} if change else {})}, path)
    message = judge.refuses(
        name,
        lambda: weights_of(copy),
        ModelError,
        accepts=lambda: weights_of(SOURCE),
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
def test_numbers_of_another_model_are_refused(judge, copy, change):
    rewrite(copy, **change)
    judge.refuses(
        str(change),
        lambda: weights_of(copy),
        ModelError,
        accepts=lambda: weights_of(SOURCE),
    )


@pytest.mark.requirement("CK-11")
def test_no_backend_runs_some_of_the_layers(judge, copy, backend_names):
    """A graph of fewer layers than the weights have would run, and speak noise."""
    rewrite(copy, num_hidden_layers=1)
    for name in backend_names:
        judge.refuses(
            name,
            lambda b=name: open_backend(b, copy),
            ModelError,
            accepts=lambda b=name: open_backend(b, SOURCE),
        )


@pytest.mark.requirement("CK-12")
def test_tables_that_training_code_saves_along_are_left_out(judge, copy):
    expected = ModelFolder.open(SOURCE)
    for stem, name in (
        ("model", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("decoder", "head.istft.window"),
    ):
        stored = load_file(copy / f"{stem}.safetensors")
        save_file({**stored, name: np.ones(3, np.float32)}, copy / f"{stem}.safetensors")
    found = ModelFolder.open(copy)
    same_weights(judge, found.language_model_weights(), expected.language_model_weights())
    same_weights(judge, found.decoder_weights(), expected.decoder_weights())


@pytest.mark.requirement("CK-08")
def test_a_pickled_decoder_is_read_as_plain_tensors_and_safetensors_are_preferred(judge, copy):
    torch = pytest.importorskip("torch", reason="decoder.pth is a PyTorch file")
    expected = ModelFolder.open(SOURCE).decoder_weights()
    state = {name: torch.tensor(values) for name, values in expected.items()}
    state["head.istft.window"] = torch.ones(128)
    torch.save({name: tensor * 2 for name, tensor in state.items()}, copy / "decoder.pth")
    same_weights(judge, ModelFolder.open(copy).decoder_weights(), expected)
    torch.save(state, copy / "decoder.pth")
    (copy / "decoder.safetensors").unlink()
    same_weights(judge, ModelFolder.open(copy).decoder_weights(), expected)
    judge.equal(
        "config", repr(ModelFolder.open(copy).config), repr(ModelFolder.open(SOURCE).config)
    )


@pytest.mark.requirement("CK-09")
def test_damaged_weights_are_refused(judge, copy):
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
