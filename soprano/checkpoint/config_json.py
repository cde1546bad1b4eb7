"""`config.json` and `generation_config.json` -> the dataclasses of `soprano.config`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from soprano.config import (
    DecoderConfig,
    GenerationOptions,
    LanguageModelConfig,
    SamplingOptions,
)
from soprano.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

# Keys of `config.json` with the values that they may have: this family's arithmetic does not vary.
_FIXED_KEYS: dict[str, tuple[Any, ...]] = {
    "model_type": ("qwen3",),
    "architectures": (["Qwen3ForCausalLM"], None),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}
# Keys of Hugging Face configs that change nothing here: those of every configuration and of Qwen3,
# and the generation options that versions 3 and 4 of transformers also wrote.
_CARRIED = (
    "_attn_implementation _attn_implementation_autoset _commit_hash _name_or_path "
    "add_cross_attention attention_dropout attn_implementation bos_token_id "
    "chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id dtype "
    "finetuning_task id2label initializer_range is_decoder is_encoder_decoder label2id "
    "max_position_embeddings max_window_layers output_attentions output_hidden_states "
    "pad_token_id prefix problem_type return_dict sep_token_id sliding_window "
    "task_specific_params tf_legacy_loss tie_encoder_decoder tokenizer_class torch_dtype "
    "torchscript transformers_version use_bfloat16 use_cache"
)
_GENERATION = (
    "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping "
    "encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id "
    "forced_eos_token_id length_penalty max_length min_length no_repeat_ngram_size "
    "num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values "
    "repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p"
)
_IGNORED_KEYS = frozenset(f"{_CARRIED} {_GENERATION}".split())

# The objects in which older and newer versions describe the rotary embedding.
_ROPE_KEYS = ("rope_scaling", "rope_parameters")
_LANGUAGE_MODEL_KEYS = tuple(field.name for field in fields(LanguageModelConfig))
_KNOWN_KEYS = frozenset(
    {*_LANGUAGE_MODEL_KEYS, *_FIXED_KEYS, *_IGNORED_KEYS, *_ROPE_KEYS, "layer_types", "decoder"}
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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: the file is missing, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}: not a model folder") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object")
    return document


def parse_language_model(document: Mapping[str, Any]) -> LanguageModelConfig:
    """The language model's config out of a `config.json` in its older or newer spelling."""
    entries = {**document, **_parse_rope(document)}
    if unknown := sorted(set(entries) - _KNOWN_KEYS):
        raise ModelError(f"config.json: unknown key {unknown[0]!r}")
    for key, allowed in _FIXED_KEYS.items():
        if key in entries and entries[key] not in allowed:
            raise ModelError(f"config.json: {key} must be {allowed[0]!r}, got {entries[key]!r}")
    if set(entries.get("layer_types") or ()) - {"full_attention"}:
        raise ModelError("config.json: layer_types must all be 'full_attention'")
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
        if not isinstance(entries[name], (int, float) if kind is float else kind):
            raise ModelError(
                f"config.json: {name} must be of type {kind.__name__}, got {entries[name]!r}"
            )
        values[name] = kind(entries[name])
    return LanguageModelConfig(**values)


def _parse_rope(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of either object that describes the rotary embedding, without its type."""
    entries: dict[str, Any] = {}
    for key in _ROPE_KEYS:
        stated = document.get(key) or {}
        if not isinstance(stated, dict):
            raise ModelError(f"config.json: {key} must be an object, got {stated!r}")
        entries |= stated
        for kind in ("rope_type", "type"):
            if entries.pop(kind, "default") != "default":
                raise ModelError(f"config.json: {key} must have the {kind} 'default'")
    return entries


def parse_decoder(document: Mapping[str, Any], shapes: Shapes | None) -> DecoderConfig:
    """The decoder's config, from its tensors' shapes and the `decoder` object of `config.json`.

    The shapes determine the architecture, the object the signal's parameters; a value that both
    have must be the same. Without the object only the two published decoders are recognised.
    """
    stated = document.get("decoder")
    if stated is not None and not isinstance(stated, dict):
        raise ModelError("config.json: 'decoder' must be an object")
    names = [field.name for field in fields(DecoderConfig)]
    if unknown := sorted(set(stated or ()) - set(names)):
        raise ModelError(f"config.json: unknown key 'decoder.{unknown[0]}'")
    measured = _measure_decoder(shapes) if shapes is not None else {}
    if stated is None:
        stated = _published_signal(measured)
    for name in set(measured) & set(stated):
        if measured[name] != stated[name]:
            raise ModelError(
                f"config.json has decoder.{name}={stated[name]}, the weights have {measured[name]}"
            )
    values = {**measured, **stated}
    if missing := [name for name in names if not isinstance(values.get(name), int)]:
        raise ModelError(f"config.json: missing number 'decoder.{missing[0]}'")
    return DecoderConfig(**{name: values[name] for name in names})


def _published_signal(measured: Mapping[str, int]) -> dict[str, int]:
    keys = ("input_size", "dim", "num_layers", "input_kernel_size")
    signature = (*(measured.get(key, 0) for key in keys), measured.get("n_fft", 0) + 2)
    if signature not in _PUBLISHED_DECODERS:
        raise ModelError(
            "config.json has no 'decoder' object with "
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
    document = read_json(path) if path.exists() else {}

    def stated(names: Iterable[str]) -> dict[str, Any]:
        return {name: document[name] for name in names if document.get(name) is not None}

    sampling = stated(field.name for field in fields(SamplingOptions))
    if document.get("do_sample") is False:
        sampling["temperature"] = 0.0  # whatever the file's temperature is
    try:
        return GenerationOptions(SamplingOptions(**sampling), **stated(_GENERATION_OPTIONS))
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
