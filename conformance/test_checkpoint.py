"""Checkpoint folders: every spelling in use is read, and what is not understood is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conformance.vectors import fixture_models
from soprano.backends import installed_backends, open_backend
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


def rewrite(folder: Path, **change: Any) -> None:
    """Change keys of a folder's `config.json`."""
    path = folder / "config.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**found, **change}), encoding="utf-8")


def weights_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    folder = ModelFolder.open(path)
    return folder.language_model_weights(), folder.decoder_weights()


@pytest.fixture
def backend_names() -> list[str]:
    """The reference, and the quicker to open of the two that run its graphs."""
    return [name for name in installed_backends() if name in ("onnx_cpu", "pytorch")]


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


# What `save_pretrained` of transformers 5.24 and 4.40 wrote for a Qwen3 of these numbers.
COMMON = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.1,
    "bos_token_id": None,
    "eos_token_id": 3,
    "head_dim": 6,
    "hidden_act": "silu",
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 512,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "pad_token_id": 3,
    "rms_norm_eps": 1e-06,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "5.24.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 91,
}
NEWER = {
    "dtype": "bfloat16",
    "layer_types": ["full_attention"] * 3,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}
OLDER = {
    "_name_or_path": "checkpoints/last",
    "rope_scaling": None,
    "rope_theta": 10000,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
}
# What a configuration of version 4 holds if it is written in full.
IN_FULL = {
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "do_sample": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "max_length": 20,
    "pruned_heads": {},
    "return_dict": True,
    "task_specific_params": None,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tokenizer_class": None,
    "top_k": 50,
    "torchscript": False,
    "typical_p": 1.0,
    "use_bfloat16": False,
}


@pytest.mark.requirement("CK-01")
@pytest.mark.parametrize(
    "written",
    [
        NEWER,
        OLDER,
        {**OLDER, **IN_FULL},
        {**OLDER, "architectures": None, "eos_token_id": [3], "use_sliding_window": None},
        {"rope_scaling": {"type": "default"}, "rope_theta": 10000.0},
        {"rope_scaling": {"rope_theta": 10000.0, "rope_type": "default"}},
        {
            "rope_parameters": {
                "rope_theta": 1e4,
                "rope_type": "default",
                "partial_rotary_factor": 1,
            }
        },
    ],
)
def test_what_published_configs_hold_is_understood(judge, written):
    expected = {**document(), "rope_theta": 10000.0}
    found = parse_language_model({**COMMON, **written})
    judge.equal("config", repr(found), repr(parse_language_model(expected)))


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
        {"rope_parameters": {"rope_theta": 1.0, "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": "yarn"},
        {"partial_rotary_factor": 0.5},
        {"pruned_heads": {"0": [1]}},
        {"quantization_config": {"bits": 4}},
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"architectures": ["Qwen2ForCausalLM"]},
        {"eos_token_id": [3, 4]},
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


@pytest.mark.requirement("CK-13")
@pytest.mark.parametrize("path", fixture_models(), ids=lambda path: path.name)
def test_every_stated_number_is_the_models(judge, path):
    stated = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = ModelFolder.open(path).config
    for part, numbers in ((config.language_model, stated), (config.decoder, stated["decoder"])):
        for name, number in vars(part).items():
            if name in numbers:
                judge.equal(name, repr(number), repr(type(number)(numbers[name])))


@pytest.mark.requirement("CK-13")
def test_no_number_is_derived_from_others_or_assumed(judge):
    # Each number alone takes a value that no rule of thumb gives.
    others = {
        "head_dim": 14, "eos_token_id": 7, "rms_norm_eps": 3e-5, "rope_theta": 777.0,
        "tie_word_embeddings": True, "num_attention_heads": 8, "intermediate_size": 41,
    }  # fmt: skip
    for name, number in others.items():
        parsed = parse_language_model({**document(), name: number})
        judge.equal(name, repr(getattr(parsed, name)), repr(number))
        rest = {k: v for k, v in vars(parsed).items() if k != name}
        same = {k: v for k, v in vars(parse_language_model(document())).items() if k != name}
        judge.equal(f"the rest beside {name}", repr(rest), repr(same))
    for name, number in {"hop_length": 13, "win_length": 40, "sample_rate": 11111}.items():
        stated = {**SIGNAL, "frames_per_token": 3, name: number}
        parsed = parse_decoder({"decoder": stated}, shapes(24, 20, 2, 3, 64))
        judge.equal(name, getattr(parsed, name), number)


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
