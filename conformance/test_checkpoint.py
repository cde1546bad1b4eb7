"""Checkpoint folders: every spelling in use is read, and what is not understood is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conformance.vectors import fixture_models
from soprano.configfile import parse_decoder, parse_language_model
from soprano.errors import ModelError
from soprano.model import ModelFolder

SOURCE = next(path for path in fixture_models() if path.name == "v11")
SIGNAL = {"sample_rate": 24000, "n_fft": 62, "hop_length": 16, "win_length": 62}


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SOURCE / "config.json").read_text(encoding="utf-8"))
    return found


def shapes(input_size: int, dim: int, layers: int, kernel: int, rows: int) -> dict[str, Any]:
    """The shapes of a decoder's tensors, those that tell its numbers."""
    found: dict[str, Any] = {
        "decoder.embed.weight": (dim, input_size, kernel),
        "head.out.weight": (rows, dim),
    }
    for layer in range(layers):
        found[f"decoder.convnext.{layer}.pwconv1.weight"] = (3 * dim, dim)
        found[f"decoder.convnext.{layer}.dwconv.weight"] = (dim, 1, 3)
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "copy"))


def same_weights(judge, one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    judge.equal("names", sorted(one), sorted(two))
    for name, values in one.items():
        judge.same(name, values, two[name])


@pytest.mark.requirement("CK-01")
def test_older_and_newer_spellings_say_the_same(judge):
    old = document()
    new = {k: v for k, v in old.items() if k not in ("rope_theta", "torch_dtype")}
    new |= {"dtype": "float32", "rope_parameters": {"rope_theta": 1234.5, "rope_type": "default"}}
    old["rope_theta"] = 1234.5
    judge.equal("config", repr(parse_language_model(new)), repr(parse_language_model(old)))
    judge.equal("theta", str(parse_language_model(new).rope_theta), "1234.5")


@pytest.mark.requirement("CK-02")
@pytest.mark.parametrize(
    "change",
    [
        {"unheard_of": 1},
        {"decoder": {"unheard_of": 1}},
        {"model_type": "qwen2"},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"use_sliding_window": True},
        {"rope_scaling": {"rope_type": "yarn"}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1.0}},
        {"layer_types": ["sliding_attention"]},
        {"num_key_value_heads": 3},
        {"head_dim": 7},
        {"hidden_size": "24"},
        {"vocab_size": 0},
        {"eos_token_id": None},
    ],
)
def test_what_is_not_understood_is_refused_by_name(judge, copy, change):
    path = copy / "config.json"
    path.write_text(json.dumps({**document(), **change}), encoding="utf-8")
    message = judge.refuses(
        "config",
        lambda: ModelFolder.open(copy).config,
        ModelError,
        accepts=lambda: ModelFolder.open(SOURCE).config,
    )
    inside = (key for value in change.values() if isinstance(value, dict) for key in value)
    named = [key for key in (*change, *inside) if key in message]
    judge.equal("the message names the key", bool(named), True)


@pytest.mark.requirement("CK-02")
def test_a_missing_number_is_refused_by_name(judge):
    for name in ("head_dim", "rope_theta", "tie_word_embeddings", "num_hidden_layers"):
        rest = {key: value for key, value in document().items() if key != name}
        message = judge.refuses(
            name,
            lambda r=rest: parse_language_model(r),
            ModelError,
            accepts=lambda: parse_language_model(document()),
        )
        judge.equal(f"message names {name}", name in message, True)


@pytest.mark.requirement("CK-03")
def test_the_published_decoders_are_known_by_their_shapes(judge):
    for dim, kernel in ((512, 3), (768, 1)):
        numbers = parse_decoder({}, shapes(512, dim, 8, kernel, 2050))
        signal = (numbers.sample_rate, numbers.n_fft, numbers.hop_length, numbers.win_length)
        judge.equal(f"dim {dim}", signal, (32000, 2048, 512, 2048))
        judge.equal("kernel", (numbers.input_kernel_size, numbers.dim), (kernel, dim))
    unknown = shapes(512, 640, 8, 1, 2050)
    judge.refuses(
        "another shape",
        lambda: parse_decoder({}, unknown),
        ModelError,
        accepts=lambda: parse_decoder({}, shapes(512, 768, 8, 1, 2050)),
    )


@pytest.mark.requirement("CK-04")
def test_numbers_that_contradict_the_weights_are_refused(judge):
    stated = {**SIGNAL, "frames_per_token": 4}
    parsed = parse_decoder({"decoder": stated}, shapes(24, 20, 2, 3, 64))
    judge.equal("layers", (parsed.num_layers, parsed.dim, parsed.n_fft), (2, 20, 62))
    for name, value in (("n_fft", 64), ("dim", 21), ("num_layers", 3)):
        wrong = {"decoder": {**stated, name: value}}
        judge.refuses(
            name,
            lambda w=wrong: parse_decoder(w, shapes(24, 20, 2, 3, 64)),
            ModelError,
            accepts=lambda: parse_decoder({"decoder": stated}, shapes(24, 20, 2, 3, 64)),
        )


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


@pytest.mark.requirement("CK-07")
def test_bfloat16_is_widened_exactly(judge, copy):
    import struct

    values = np.array([1.0, -2.5, 3.1415927, 1e-30, 65280.0], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}, separators=(",", ":")
    ).encode()
    content = struct.pack("<Q", len(header)) + header + halves.tobytes()
    (copy / "model.safetensors").write_bytes(content)
    expected = (halves.astype(np.uint32) << 16).view(np.float32)
    judge.same("values", ModelFolder.open(copy).language_model_weights()["w"], expected)


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
