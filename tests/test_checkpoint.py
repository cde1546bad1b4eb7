"""Checkpoint folders: every spelling of the numbers is read, what is not understood is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conformance.golden.packs import fixture_models
from soprano.checkpoint.config_json import parse_decoder, parse_language_model
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError
from tests.checkpoints import SIGNAL, SOURCE, document, shapes


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCE, tmp_path / "copy"))


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
