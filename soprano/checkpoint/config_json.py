"""`config.json` and `generation_config.json` -> the dataclasses of `soprano.config`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from soprano.checkpoint.contents import read_json
from soprano.config import (
    MAX_NEW_TOKENS,
    DecoderConfig,
    GenerationOptions,
    LanguageModelConfig,
    SamplingOptions,
)
from soprano.errors import ModelError, one_line, shown

Shapes = Mapping[str, tuple[int, ...]]

# Keys of `config.json` with the values that they may have: this family's arithmetic does not vary.
_FIXED_KEYS: dict[str, tuple[Any, ...]] = {
    "model_type": ("qwen3",),
    "architectures": (["Qwen3ForCausalLM"], None),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False, None),
    "pretraining_tp": (1, None),
    "use_mrope": (False, None),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}
# Keys of Hugging Face configs that change nothing here: those of every configuration and of Qwen3,
# and the generation options that versions 3 and 4 of transformers also wrote.
_CARRIED = (
    "add_cross_attention attn_implementation auto_map chunk_size_feed_forward "
    "cross_attention_hidden_size dtype finetuning_task id2label initializer_range is_decoder "
    "is_encoder_decoder label2id max_position_embeddings max_window_layers output_attentions "
    "output_hidden_states prefix problem_type return_dict sliding_window task_specific_params "
    "tf_legacy_loss tie_encoder_decoder torch_dtype torchscript use_bfloat16 use_cache"
)
_GENERATION = (
    "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping "
    "encoder_no_repeat_ngram_size exponential_decay_length_penalty length_penalty max_length "
    "min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores "
    "remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens temperature "
    "top_k top_p typical_p"
)
_IGNORED_KEYS = frozenset(f"{_CARRIED} {_GENERATION}".split())
# Other tools add keys of their own. A key describes no arithmetic if it is private, begins with
# the name of a tool, or is about provenance, training, tokens or lengths ...
BOOKKEEPING = re.compile(
    r"_.+"
    r"|(accelerate|autotrain|axolotl|deepspeed|export|gguf|huggingface|llamafactory|mlx|onnx"
    r"|openvino|optimum|peft|swift|tokenizer|torch|train|training|transformers|trl|unsloth|vllm"
    r"|wandb)(\.?js)?([._-].+)?"
    r"|.*(dropout|pdrop|layerdrop|checkpointing|_loss|_coef|flash_attn|flash_attention(_2)?)"
    r"|.*_(commit|date|hash|name_or_path|revision|version)"
    r"|((base_)?model|library|pipeline)_(id|name|tag)|base_model|custom_(generate|pipelines)"
    r"|authors?|citation|datasets|date|description|homepage|language|license|metadata|name|paper"
    r"|revision|tags|task|url|version"
    r"|\w+_token(_ids?)?|device(_map)?|num_labels|use_return_dict|fp16|bf16"
    r"|(model_)?(max_)?(seq|sequence)_(len|length)|model_max_length|n_ctx|n_positions"
)
# ... unless its name is about a part of the networks.
_ARITHMETIC = re.compile(
    r"bias|expert|lora|norm|quant|rope|rotary|scal|sliding|softcap|theta|window"
)

# The objects in which older and newer versions describe the rotary embedding.
_ROPE_KEYS = ("rope_scaling", "rope_parameters")
_LANGUAGE_MODEL_KEYS = tuple(field.name for field in fields(LanguageModelConfig))
# The object of the decoder's numbers. It was `decoder` once, which transformers takes for the
# config of a nested language model.
DECODER_KEY = "soprano_decoder"
NORMALIZER_KEY = "soprano_normalizer"
_DECODER_KEYS = (DECODER_KEY, "decoder")
_DECODER_NUMBERS = tuple(field.name for field in fields(DecoderConfig))
_KNOWN_KEYS = frozenset(
    {*_LANGUAGE_MODEL_KEYS, *_FIXED_KEYS, *_IGNORED_KEYS, *_ROPE_KEYS, *_DECODER_KEYS}
    | {"layer_types", "quantization", NORMALIZER_KEY}
)
_SIGNAL_KEYS = ("sample_rate", "n_fft", "hop_length", "win_length", "frames_per_token")

# A published config.json does not state the signal's parameters. These belong to the two published
# decoders, recognised by (input channels, dim, layers, input kernel, head outputs).
_PUBLISHED_SIGNAL = {
    "sample_rate": 32000,
    "n_fft": 2048,
    "hop_length": 512,
    "win_length": 2048,
    "frames_per_token": 4,
}
_PUBLISHED_DECODERS = {(512, 512, 8, 3, 2050): "v1.0", (512, 768, 8, 1, 2050): "v1.1"}

# Keys that a `generation_config.json` may have besides those of sampling.
_GENERATION_OPTIONS = ("max_new_tokens", "hallucination_distance")


def parse_language_model(document: Mapping[str, Any]) -> LanguageModelConfig:
    """The language model's config out of a `config.json` in its older or newer spelling."""
    entries = {**document, **_parse_rope(document)}
    if unknown := sorted(key for key, value in entries.items() if not _is_known(key, value)):
        raise ModelError(f"config.json: unknown key {shown(unknown[0])}")
    # MLX states the form of its matrices twice.
    if entries.get("quantization_config") == entries.pop("quantization", None):
        entries.pop("quantization_config", None)
    for key, allowed in _FIXED_KEYS.items():
        if key in entries and entries[key] not in allowed:
            raise ModelError(
                f"config.json: {key} must be {allowed[0]!r}, got {shown(entries[key])}"
            )
    layer_types = entries.get("layer_types") or []
    if not isinstance(layer_types, list) or any(t != "full_attention" for t in layer_types):
        raise ModelError(
            f"config.json: layer_types must all be 'full_attention', got {shown(layer_types)}"
        )
    if isinstance(entries.get("eos_token_id"), list) and len(entries["eos_token_id"]) == 1:
        entries["eos_token_id"] = entries["eos_token_id"][0]
    if missing := [name for name in _LANGUAGE_MODEL_KEYS if entries.get(name) is None]:
        raise ModelError(f"config.json: missing key {missing[0]!r}")
    types: dict[str, type] = {
        "rms_norm_eps": float,
        "rope_theta": float,
        "tie_word_embeddings": bool,
    }
    values: dict[str, Any] = {}
    for name in _LANGUAGE_MODEL_KEYS:
        kind = types.get(name, int)
        value = entries[name]
        if isinstance(value, bool) != (kind is bool) or not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise ModelError(
                f"config.json: {name} must be of type {kind.__name__}, got {shown(value)}"
            )
        try:
            values[name] = kind(value)
        except OverflowError:  # an integer beyond all floats
            raise ModelError(f"config.json: {name} is too large, got {shown(value)}") from None
    return LanguageModelConfig(**values)


def _is_known(key: str, value: Any) -> bool:
    """Whether a key is read here, states nothing, or describes no arithmetic."""
    if key in _KNOWN_KEYS or value is None:
        return True
    return bool(BOOKKEEPING.fullmatch(key)) and not _ARITHMETIC.search(key)


def _parse_rope(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of either object that describes the rotary embedding, without its type."""
    entries: dict[str, Any] = {}
    for key in _ROPE_KEYS:
        stated = document.get(key) or {}
        if not isinstance(stated, dict):
            raise ModelError(f"config.json: {key} must be an object, got {shown(stated)}")
        entries |= stated
        for kind in ("rope_type", "type"):
            if entries.pop(kind, "default") != "default":
                raise ModelError(f"config.json: {key} must have the {kind} 'default'")
    return entries


def parse_decoder(document: Mapping[str, Any], shapes: Shapes | None) -> DecoderConfig:
    """The decoder's config, from its tensors' shapes and the decoder's object of `config.json`.

    The shapes determine the architecture, the object the signal's parameters; a value that both
    have must be the same. Without the object only the two published decoders are recognised.
    """
    key, stated = _decoder_object(document)
    measured = _measure_decoder(shapes) if shapes is not None else {}
    if stated is None:
        stated = _published_signal(measured)
    for name in set(measured) & set(stated):
        if measured[name] != stated[name]:
            raise ModelError(
                f"config.json has {key}.{name}={stated[name]}, the weights have {measured[name]}"
            )
    values = {**measured, **stated}
    if missing := [n for n in _DECODER_NUMBERS if type(values.get(n)) is not int]:
        raise ModelError(f"config.json: missing number '{key}.{missing[0]}'")
    return DecoderConfig(**{name: values[name] for name in _DECODER_NUMBERS})


def states_whole_decoder(document: Mapping[str, Any]) -> bool:
    """Whether `config.json` states every number of the decoder, as that of a bundle does."""
    return set(_DECODER_NUMBERS) <= set(_decoder_object(document)[1] or ())


def _decoder_object(document: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The key of the decoder's object, and the object, if there is one."""
    found = {key: document[key] for key in _DECODER_KEYS if document.get(key) is not None}
    for key, stated in found.items():
        if not isinstance(stated, dict):
            raise ModelError(f"config.json: {key!r} must be an object")
        if unknown := sorted(set(stated) - set(_DECODER_NUMBERS)):
            raise ModelError(f"config.json: unknown key '{key}.{one_line(unknown[0], 60)}'")
        if stated != found[next(iter(found))]:
            raise ModelError(f"config.json: {' and '.join(found)} differ")
    return next(iter(found.items()), (DECODER_KEY, None))


def _published_signal(measured: Mapping[str, int]) -> dict[str, int]:
    keys = ("input_size", "dim", "num_layers", "input_kernel_size")
    signature = (*(measured.get(key, 0) for key in keys), measured.get("n_fft", 0) + 2)
    if signature not in _PUBLISHED_DECODERS:
        raise ModelError(
            f"config.json has no {DECODER_KEY!r} object with "
            f"{', '.join(_SIGNAL_KEYS)}, and the weights are of no published decoder"
        )
    return dict(_PUBLISHED_SIGNAL)


def _measure_decoder(shapes: Shapes) -> dict[str, int]:
    try:
        dim, input_size, input_kernel = shapes["decoder.embed.weight"]
        intermediate = shapes["decoder.convnext.0.pwconv1.weight"][0]
        kernel = shapes["decoder.convnext.0.dwconv.weight"][2]
        rows = shapes["head.out.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"the decoder's weights are not of this family: {error}") from None
    layers = {name.split(".")[2] for name in shapes if name.startswith("decoder.convnext.")}
    return {
        "input_size": input_size,
        "dim": dim,
        "intermediate_dim": intermediate,
        "num_layers": len(layers),
        "input_kernel_size": input_kernel,
        "kernel_size": kernel,
        "n_fft": rows - 2,
    }


def read_generation_defaults(folder: Path) -> GenerationOptions:
    """The options in a model's `generation_config.json`; the family's defaults for the others."""
    path = folder / "generation_config.json"
    document = read_json(path) if path.exists() or path.is_symlink() else {}

    def stated(names: Iterable[str]) -> dict[str, Any]:
        return {name: document[name] for name in names if document.get(name) is not None}

    sampling = stated(field.name for field in fields(SamplingOptions))
    options = stated(_GENERATION_OPTIONS)
    if isinstance(limit := options.get("max_new_tokens"), int):
        options["max_new_tokens"] = min(limit, MAX_NEW_TOKENS)  # tools write thousands
    if document.get("do_sample") is False:
        sampling["temperature"] = 0.0  # whatever the file's temperature is
    try:
        return GenerationOptions(SamplingOptions(**sampling), **options)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
