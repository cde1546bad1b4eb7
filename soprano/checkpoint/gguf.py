"""The language model of a GGUF file, the format of llama.cpp and other ggml runtimes.

Tensors are widened to float32, so that such a runtime is judged on the weights that it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from soprano.checkpoint.contents import parsing
from soprano.checkpoint.tensors import Float32
from soprano.config import LanguageModelConfig
from soprano.errors import MissingExtraError, ModelError
from soprano.regular_files import open_regular

ARCHITECTURE = "qwen3"
_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")

# Names in a checkpoint, and in a GGUF file.
_MODULES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER_MODULES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensor_names(layers: int) -> dict[str, str]:
    """The name in a GGUF file of every tensor of a checkpoint."""
    modules = _MODULES | {
        f"model.layers.{layer}.{module}": f"blk.{layer}.{own}"
        for layer in range(layers)
        for module, own in _LAYER_MODULES.items()
    }
    return {f"{module}.weight": f"{own}.weight" for module, own in modules.items()}


def metadata(config: LanguageModelConfig) -> dict[str, int | float]:
    """The numbers of a language model by their keys in a GGUF file."""
    own = {
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
    }
    return {f"{ARCHITECTURE}.{key}": value for key, value in own.items()}


def require_gguf() -> Any:
    """The package `gguf`."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(
            f"a GGUF file needs the package gguf: pip install 'soprano-conformance[gguf]' ({error})"
        ) from None
    return gguf


def read_gguf(path: Path, config: LanguageModelConfig) -> dict[str, Float32]:
    """The tensors of a language model by their names in a checkpoint.

    Raises:
        ModelError: the file is damaged, of another model, or a type of tensor is not known.
    """
    gguf = require_gguf()
    with parsing("a GGUF file", path):
        open_regular(path).close()
        reader = gguf.GGUFReader(path)
    require_config(path, reader, config)
    known = {own: name for name, own in tensor_names(config.num_hidden_layers).items()}
    weights = {}
    for tensor in reader.tensors:
        if tensor.name not in known:
            raise ModelError(f"{path}: unknown tensor {tensor.name}")
        if (kind := tensor.tensor_type.name) not in _TYPES:
            raise ModelError(
                f"{path}: {tensor.name} has type {kind}, which is none of {', '.join(_TYPES)}"
            )
        with parsing("a GGUF file", path):
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(int(size) for size in reversed(tensor.shape))
        weights[known[tensor.name]] = np.ascontiguousarray(values, np.float32).reshape(shape)
    return weights


def require_config(path: Path, reader: Any, config: LanguageModelConfig) -> None:
    """An error unless the numbers of the file are those of `config.json`."""
    stated = {name: field.contents() for name, field in reader.fields.items()}
    kind = stated.get("general.architecture")
    if kind != ARCHITECTURE:
        raise ModelError(f"{path}: general.architecture must be {ARCHITECTURE!r}, got {kind!r}")
    for key, wanted in metadata(config).items():
        if key not in stated:
            raise ModelError(f"{path}: missing key {key!r}")
        if not np.isclose(stated[key], wanted, rtol=1e-6):  # floats are stored as float32
            raise ModelError(f"{path} has {key}={stated[key]}, config.json has {wanted}")
