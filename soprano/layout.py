"""The tensors that a checkpoint must hold: the names and shapes that follow from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from soprano.config import DecoderConfig, LanguageModelConfig
from soprano.errors import ModelError

Shapes = dict[str, tuple[int, ...]]


def language_model_shapes(config: LanguageModelConfig) -> Shapes:
    """The tensors of a Qwen3 language model, each matrix (outputs, inputs)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (config.head_dim,),
        "self_attn.k_norm": (config.head_dim,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: Shapes = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(config.num_hidden_layers):
        for name, shape in layer.items():
            shapes[f"model.layers.{number}.{name}.weight"] = shape
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def decoder_shapes(config: DecoderConfig) -> Shapes:
    """The tensors of a Vocos decoder and its head."""
    dim, inner = config.dim, config.intermediate_dim
    block = {
        "dwconv.weight": (dim, 1, config.kernel_size),
        "dwconv.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "pwconv1.weight": (inner, dim),
        "pwconv1.bias": (inner,),
        "pwconv2.weight": (dim, inner),
        "pwconv2.bias": (dim,),
        "gamma": (dim,),
    }
    shapes: Shapes = {
        "decoder.embed.weight": (dim, config.input_size, config.input_kernel_size),
        "decoder.embed.bias": (dim,),
        "head.out.weight": (config.n_fft + 2, dim),
        "head.out.bias": (config.n_fft + 2,),
    }
    for norm in ("norm", "final_layer_norm"):
        shapes |= {f"decoder.{norm}.weight": (dim,), f"decoder.{norm}.bias": (dim,)}
    for number in range(config.num_layers):
        for name, shape in block.items():
            shapes[f"decoder.convnext.{number}.{name}"] = shape
    return shapes


def is_derived(name: str) -> bool:
    """Whether a stored tensor follows from the config: tables that training code saves along."""
    return name.endswith(("window", "rotary_emb.inv_freq"))


def require_shapes(where: Path, found: Mapping[str, tuple[int, ...]], wanted: Shapes) -> None:
    """An error that names the first tensor that is missing, unknown or of another shape."""
    for name in sorted(set(wanted) ^ set(found)):
        raise ModelError(f"{where}: {'missing' if name in wanted else 'unknown'} tensor {name}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(f"{where}: {name} has shape {found[name]}, config.json says {shape}")
