"""`config.json` and `generation_config.json` -> the dataclasses of `soprano.config`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
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

# Keys of `config.json` that fix an arithmetic this family does not vary.
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("qwen3",),
    "architectures": (["Qwen3ForCausalLM"], None),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}
# Keys that Hugging Face configs are known to carry and that change nothing here: those of every
# configuration and of Qwen3, and the generation options that versions 3 and 4 wrote along.
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
_IGNORED = frozenset(f"{_CARRIED} {_GENERATION}".split())

# Where older and newer versions put what they know of the rotation.
_ROPE_KEYS = ("rope_scaling", "rope_parameters")
_SIGNAL_KEYS = ("sample_rate", "n_fft", "hop_length", "win_length", "frames_per_token")

# A published config.json carries no numbers of the sound; these belong to its two decoders,
# recognised by (input channels, dim, layers, input kernel, head rows).
_PUBLISHED_SIGNAL = {
    "sample_rate": 32000,
    "n_fft": 2048,
    "hop_length": 512,
    "win_length": 2048,
    "frames_per_token": 4,
}
_PUBLISHED_DECODERS = {(512, 512, 8, 3, 2050): "v1.0", (512, 768, 8, 1, 2050): "v1.1"}


# What a `generation_config.json` may say beside sampling; other options belong to a call.
_OF_A_MODEL = ("max_new_tokens", "hallucination_distance")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a `ModelError` that names the file where there is none."""
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
    """The language model's numbers out of a `config.json`, in its older or newer spelling."""
    numbers = {**document, **_read_rope(document)}
    names = [field.name for field in fields(LanguageModelConfig)]
    known = {*names, *_FIXED, *_IGNORED, *_ROPE_KEYS, "layer_types", "decoder"}
    if unknown := sorted(set(numbers) - known):
        raise ModelError(f"config.json: unknown key {unknown[0]!r}")
    for key, allowed in _FIXED.items():
        if key in numbers and numbers[key] not in allowed:
            raise ModelError(f"config.json: {key} must be {allowed[0]!r}, got {numbers[key]!r}")
    if set(numbers.get("layer_types") or ()) - {"full_attention"}:
        raise ModelError("config.json: layer_types must all be 'full_attention'")
    if isinstance(numbers.get("eos_token_id"), list) and len(numbers["eos_token_id"]) == 1:
        numbers["eos_token_id"] = numbers["eos_token_id"][0]
    if missing := [name for name in names if numbers.get(name) is None]:
        raise ModelError(f"config.json: missing key {missing[0]!r}")
    types: dict[str, type] = {
        "rms_norm_eps": float,
        "rope_theta": float,
        "tie_word_embeddings": bool,
    }
    for name in names:
        wanted = types.get(name, int)
        if not isinstance(numbers[name], (int, float) if wanted is float else wanted):
            raise ModelError(
                f"config.json: {name} must be of type {wanted.__name__}, got {numbers[name]!r}"
            )
    chosen: dict[str, Any] = {name: types.get(name, int)(numbers[name]) for name in names}
    return LanguageModelConfig(**chosen)


def _read_rope(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of either object that describes the rotation, with the kind checked and removed."""
    found: dict[str, Any] = {}
    for key in _ROPE_KEYS:
        stated = document.get(key) or {}
        if not isinstance(stated, dict):
            raise ModelError(f"config.json: {key} must be an object, got {stated!r}")
        found |= stated
        for kind in ("rope_type", "type"):
            if found.pop(kind, "default") != "default":
                raise ModelError(f"config.json: {key} must have the {kind} 'default'")
    return found


def parse_decoder(document: Mapping[str, Any], shapes: Shapes | None) -> DecoderConfig:
    """The decoder's numbers, from its tensors' shapes and the `decoder` object of `config.json`.

    Shapes decide the architecture and the object the signal; where both name a number they must
    agree. Without the object only the two published decoders are known, by their shapes.
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
                f"config.json says decoder.{name}={stated[name]}, the weights say {measured[name]}"
            )
    numbers = {**measured, **stated}
    if missing := [name for name in names if not isinstance(numbers.get(name), int)]:
        raise ModelError(f"config.json: missing number 'decoder.{missing[0]}'")
    return DecoderConfig(**{name: numbers[name] for name in names})


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


def decoder_document(config: DecoderConfig) -> dict[str, int]:
    """The complete `decoder` object, for folders whose weights may not tell their shapes."""
    return asdict(config)


def read_generation_defaults(folder: Path) -> GenerationOptions:
    """What a model's `generation_config.json` says of speaking, else the family's defaults."""
    path = folder / "generation_config.json"
    document = read_json(path) if path.exists() else {}

    def said(names: Iterable[str]) -> dict[str, Any]:
        return {name: document[name] for name in names if document.get(name) is not None}

    sampling = said(field.name for field in fields(SamplingOptions))
    if document.get("do_sample") is False:
        sampling["temperature"] = 0.0  # whatever temperature stands beside it
    try:
        return GenerationOptions(SamplingOptions(**sampling), **said(_OF_A_MODEL))
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
