"""CK: the config of a checkpoint folder; what is not understood is rejected."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.numpy import load_file

from conformance.golden.packs import fixture_models
from soprano.checkpoint.config_json import parse_decoder, parse_language_model
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError
from soprano.tokenizer import load_tokenizer

from .checkpoints import (
    SIGNAL,
    SOURCE,
    change_config,
    decoder_shapes,
    judge_weights,
    read_config,
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(SOURCE, tmp_path / "copy")


@pytest.mark.requirement("CK-01")
def test_older_and_newer_spelling_give_the_same_config(judge):
    old = read_config()
    new = {k: v for k, v in old.items() if k not in ("rope_theta", "torch_dtype")}
    new |= {"dtype": "float32", "rope_parameters": {"rope_theta": 1234.5, "rope_type": "default"}}
    old["rope_theta"] = 1234.5
    judge.equal("config", repr(parse_language_model(new)), repr(parse_language_model(old)))
    judge.equal("theta", str(parse_language_model(new).rope_theta), "1234.5")


# What `save_pretrained` of transformers 5.24 and 4.40 wrote for a Qwen3 of this size.
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
# The further keys of a config that version 4 wrote in full.
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
        {"rope_parameters": {**NEWER["rope_parameters"], "partial_rotary_factor": 1}},
    ],
)
def test_keys_of_published_configs_are_understood(judge, written):
    actual = parse_language_model({**COMMON, **written})
    expected = parse_language_model({**read_config(), "rope_theta": 10000.0})
    judge.equal("config", repr(actual), repr(expected))


@pytest.mark.requirement("CK-02")
@pytest.mark.parametrize(
    "change",
    [
        {"unheard_of": 1},
        {"soprano_decoder": {"unheard_of": 1}},
        {"decoder": {"unheard_of": 1}},  # the older name
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
        {"architectures": ["Qwen2ForCausalLM"]},
        {"eos_token_id": [3, 4]},
        {"num_key_value_heads": 3},
        {"head_dim": 7},
        {"hidden_size": "24"},
        {"vocab_size": 0},
        {"eos_token_id": None},
    ],
)
def test_unknown_key_or_value_is_rejected_by_name(judge, copy, change):
    change_config(copy, **change)
    message = judge.refuses(
        "config",
        lambda: ModelFolder.open(copy).config,
        ModelError,
        accepts=lambda: ModelFolder.open(SOURCE).config,
    )
    nested = [key for value in change.values() if isinstance(value, dict) for key in value]
    named = any(key in message for key in (*change, *nested))
    judge.equal("the message names the key", named, True)


# Written by transformers, unsloth, axolotl, TRL, PEFT, optimum, transformers.js, MLX and others.
BY_TOOLS = {
    "_attn_implementation_autoset": True,
    "_unsloth": True,
    "auto_map": {"AutoModelForCausalLM": "modeling_qwen3.Qwen3ForCausalLM"},
    "axolotl_version": "0.12",
    "base_model": "org/voice",
    "base_model_name_or_path": "org/voice",
    "custom_pipelines": {},
    "export_model_type": "text-generation",
    "gradient_checkpointing": True,
    "language": ["en"],
    "license": "mit",
    "max_seq_length": 2048,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "use_mrope": False,
    "model_max_length": 1024,
    "model_name": "unsloth/qwen3",
    "neuron": None,
    "optimum_version": "2.1",
    "peft_version": "0.17",
    "resid_pdrop": 0.1,
    "tokenizer_padding_side": "left",
    "training_args": {"lr": 1e-4},
    "transformers.js_config": {"dtype": "q8", "use_external_data_format": True},
    "trl_version": "0.23",
    "unk_token_id": 0,
    "unsloth_fixed": True,
    "unsloth_version": "2025.9.1",
    "use_flash_attn": True,
}
ARITHMETIC = {
    "attention_multiplier": 0.5,
    "attn_logit_softcapping": 30.0,
    "embedding_multiplier": 12.0,
    "layer_norm_eps": 1e-5,
    "logit_scale": 0.0625,
    "mlp_bias": True,
    "no_rope_layers": [1, 0, 1],
    "partial_rotary_factor": 0.25,
    "query_pre_attn_scalar": 256,
    "residual_multiplier": 0.2,
    "rope_interleaved": True,
    "rope_local_base_freq": 1e4,
    "sliding_window_pattern": 6,
    "unsloth_rope_scaling": {"factor": 2.0},
    "use_qk_norm": False,
    "_quantized": True,
}


@pytest.mark.requirement("CK-15")
@pytest.mark.parametrize("key", BY_TOOLS)
def test_keys_of_tools_that_change_no_arithmetic_are_accepted(judge, key):
    actual = parse_language_model({**read_config(), key: BY_TOOLS[key]})
    judge.equal(key, repr(actual), repr(parse_language_model(read_config())))


@pytest.mark.requirement("CK-02")
@pytest.mark.parametrize("key", ARITHMETIC)
def test_keys_that_change_the_arithmetic_are_rejected_by_name(judge, key):
    message = judge.refuses(
        key,
        lambda: parse_language_model({**read_config(), key: ARITHMETIC[key]}),
        ModelError,
        accepts=lambda: parse_language_model(read_config()),
    )
    judge.equal("the message names the key", key in message, True)


@pytest.mark.requirement("CK-15")
def test_a_limit_of_new_tokens_above_the_family_s_is_clipped(judge, copy):
    for stated, expected in ((32768, 512), (513, 512), (512, 512), (100, 100)):
        path = copy / "generation_config.json"
        path.write_text(json.dumps({"max_new_tokens": stated}), encoding="utf-8")
        options = ModelFolder.open(copy).generation_defaults
        judge.equal(f"{stated}", options.max_new_tokens, expected)


@pytest.mark.requirement("CK-15")
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_accepted_in_every_json_file(judge, copy, encoding):
    whole, text = copy / "model.safetensors", "Hello there, 25."
    index = {"weight_map": dict.fromkeys(load_file(whole), "model-00001-of-00001.safetensors")}
    whole.rename(copy / "model-00001-of-00001.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for path in copy.glob("*.json"):
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    opened, source = ModelFolder.open(copy), ModelFolder.open(SOURCE)
    for name in ("config", "generation_defaults"):
        judge.equal(name, repr(getattr(opened, name)), repr(getattr(source, name)))
    judge_weights(judge, opened.language_model_weights(), source.language_model_weights())
    prompts = [load_tokenizer(folder).prompt(text) for folder in (copy, SOURCE)]
    judge.equal("prompt", *prompts)


@pytest.mark.requirement("CK-01")
def test_the_decoder_s_object_has_an_older_name(judge):
    stated, shapes = {**SIGNAL, "frames_per_token": 4}, decoder_shapes(24, 20, 2, 3, 64)
    new, old = (parse_decoder({key: stated}, shapes) for key in ("soprano_decoder", "decoder"))
    judge.equal("config", repr(old), repr(new))
    both = {"soprano_decoder": stated, "decoder": {**stated, "hop_length": 8}}
    judge.refuses(
        "two that differ",
        lambda: parse_decoder(both, shapes),
        ModelError,
        accepts=lambda: parse_decoder({**both, "decoder": stated}, shapes),
    )


@pytest.mark.requirement("CK-13")
@pytest.mark.parametrize("path", fixture_models(), ids=lambda path: path.name)
def test_every_number_of_config_json_is_used(judge, path):
    stated = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = ModelFolder.open(path).config
    for network, keys in (
        (config.language_model, stated),
        (config.decoder, stated["soprano_decoder"]),
    ):
        for name, value in vars(network).items():
            if name in keys:
                judge.equal(name, repr(value), repr(type(value)(keys[name])))


@pytest.mark.requirement("CK-13")
def test_no_number_is_derived_from_others_or_assumed(judge):
    # Each number alone takes a value that no rule of thumb gives.
    changes = {
        "head_dim": 14, "eos_token_id": 7, "rms_norm_eps": 3e-5, "rope_theta": 777.0,
        "tie_word_embeddings": True, "num_attention_heads": 8, "intermediate_size": 41,
    }  # fmt: skip
    unchanged = parse_language_model(read_config())
    for name, value in changes.items():
        changed = parse_language_model({**read_config(), name: value})
        judge.equal(name, repr(changed), repr(replace(unchanged, **{name: value})))
    for name, value in {"hop_length": 13, "win_length": 40, "sample_rate": 11111}.items():
        stated = {**SIGNAL, "frames_per_token": 3, name: value}
        parsed = parse_decoder({"decoder": stated}, decoder_shapes(24, 20, 2, 3, 64))
        judge.equal(name, getattr(parsed, name), value)


@pytest.mark.requirement("CK-02")
def test_missing_number_is_rejected_by_name(judge):
    for name in ("head_dim", "rope_theta", "tie_word_embeddings", "num_hidden_layers"):
        rest = {key: value for key, value in read_config().items() if key != name}
        message = judge.refuses(
            name,
            lambda r=rest: parse_language_model(r),
            ModelError,
            accepts=lambda: parse_language_model(read_config()),
        )
        judge.equal(f"the message names {name}", name in message, True)


@pytest.mark.requirement("CK-03")
def test_published_decoders_are_recognised_by_their_shapes(judge):
    for dim, kernel in ((512, 3), (768, 1)):
        config = parse_decoder({}, decoder_shapes(512, dim, 8, kernel, 2050))
        signal = (config.sample_rate, config.n_fft, config.hop_length, config.win_length)
        judge.equal(f"dim {dim}", signal, (32000, 2048, 512, 2048))
        judge.equal("kernel", (config.input_kernel_size, config.dim), (kernel, dim))
    judge.refuses(
        "another shape",
        lambda: parse_decoder({}, decoder_shapes(512, 640, 8, 1, 2050)),
        ModelError,
        accepts=lambda: parse_decoder({}, decoder_shapes(512, 768, 8, 1, 2050)),
    )


@pytest.mark.requirement("CK-04")
def test_number_that_contradicts_the_weights_is_rejected(judge):
    stated, shapes = {**SIGNAL, "frames_per_token": 4}, decoder_shapes(24, 20, 2, 3, 64)
    parsed = parse_decoder({"decoder": stated}, shapes)
    judge.equal("layers", (parsed.num_layers, parsed.dim, parsed.n_fft), (2, 20, 62))
    for name, value in (("n_fft", 64), ("dim", 21), ("num_layers", 3)):
        wrong = {"decoder": {**stated, name: value}}
        judge.refuses(
            name,
            lambda w=wrong: parse_decoder(w, shapes),
            ModelError,
            accepts=lambda: parse_decoder({"decoder": stated}, shapes),
        )
