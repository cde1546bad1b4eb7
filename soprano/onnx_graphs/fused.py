"""The language model in the form that ONNX Runtime runs fastest: fused operators, static KV cache.

It computes what the standard graph computes, with contrib operators of the runtime
(com.microsoft: GroupQueryAttention, SkipSimplifiedLayerNormalization, FusedMatMul, QuickGelu).
The KV cache is a buffer of fixed capacity, one tensor that is both input and output: columns
0 to length - 1 of row b are real, the rest is never read.
Only the hidden states after chosen ids of each row reach the output.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names, padded_head
from soprano.onnx_graphs.writer import Graph, Weights

INT32, INT64, FLOAT = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT
CONTRIB = "com.microsoft"


def fused_language_model_graph(config: LanguageModelConfig, weights: Weights) -> onnx.ModelProto:
    """`input_ids` (B, T) and caches -> `logits` (B, N, V) and `last_hidden_state` (B, N, H).

    `last_columns` (B, N, 1) are the indices of the N ids among the T after which each row has
    outputs, `row_lengths` (B,) the number of all its ids minus one, and `total_length` the largest
    of these plus one. With past ids, more than one new id is read only if B is 1.
    `cos` and `sin` are the rotary embedding of positions from 0.
    """
    g = Graph("lm_step_fused", weights)
    ids = g.input("input_ids", INT64, ["batch", "new"])
    last = g.input("last_columns", INT64, ["batch", "outputs", 1])
    attention_inputs = [
        g.input("row_lengths", INT32, ["batch"]),
        g.input("total_length", INT32, []),
        *(g.input(name, FLOAT, ["positions", padded_head(config) // 2]) for name in ("cos", "sin")),
    ]
    buffer: list[int | str] = ["batch", config.num_key_value_heads, "capacity", padded_head(config)]
    names = cache_names(config.num_hidden_layers)
    past = [g.input(name, FLOAT, buffer) for name, _ in names]

    embedded = g.op("Gather", g.stored_weight("model.embed_tokens.weight"), ids, name="embedding")
    x = g.op("Cast", embedded, name="embedding.float32", to=FLOAT)  # (B, T, H)
    added, present = "", []
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed, x = skip_norm(g, x, added, f"{prefix}.input_layernorm", config)
        inputs = [*past[2 * layer : 2 * layer + 2], *attention_inputs]
        attended, cache = attention(g, normed, inputs, f"{prefix}.self_attn", config)
        present += cache
        if layer == config.num_hidden_layers - 1:
            # Of earlier ids nothing but keys and values is read after this layer.
            attended, x = (
                g.op("GatherND", value, last, name=f"{prefix}.last.{kind}", batch_dims=1)
                for kind, value in (("mixed", attended), ("residual", x))
            )  # (B, N, H)
        added = output_projection(g, attended, f"{prefix}.self_attn", config)
        normed, x = skip_norm(g, x, added, f"{prefix}.post_attention_layernorm", config)
        added = mlp(g, normed, f"{prefix}.mlp")
    hidden, _ = skip_norm(g, x, added, "model.norm", config)
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    for name, size, value in (
        ("logits", config.vocab_size, matmul(g, hidden, [head], "head")),
        ("last_hidden_state", config.hidden_size, hidden),
    ):
        g.output(name, FLOAT, ["batch", "outputs", size], value)
    for (_, name), value in zip(names, present, strict=True):
        # No copy in between: the runtime must detect that it writes into the input's buffer.
        g.rename(value, name, FLOAT, buffer)
    return g.model()


def matmul(g: Graph, x: str, modules: list[str], name: str) -> str:
    """(..., in) -> (..., out of all modules); weights are (out, in)."""
    weight = _concatenated(g, [g.weight(f"{module}.weight") for module in modules], name)
    return g.op("FusedMatMul", x, weight, name=name, domain=CONTRIB, transB=1)


def _concatenated(g: Graph, weights: list[str], name: str) -> str:
    """Matrices joined along their outputs; the runtime folds this at load."""
    return weights[0] if len(weights) == 1 else g.op("Concat", *weights, name=f"{name}.w", axis=0)


def skip_norm(
    g: Graph, x: str, added: str, module: str, config: LanguageModelConfig
) -> tuple[str, str]:
    """The RMSNorm of x + added, and that sum."""
    scale, eps = g.weight(f"{module}.weight"), config.rms_norm_eps
    if not added:
        normed = g.op("SimplifiedLayerNormalization", x, scale, name=module, axis=-1, epsilon=eps)
        return normed, x
    kind = "SkipSimplifiedLayerNormalization"
    outputs = g.split(kind, x, added, scale, name=module, count=4, domain=CONTRIB, epsilon=eps)
    return outputs[0], outputs[3]


def attention(
    g: Graph, x: str, inputs: list[str], prefix: str, config: LanguageModelConfig
) -> tuple[str, list[str]]:
    """The attention output (B, T, heads * padded D) before its projection, and the cache."""
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    width = padded_head(config)
    counts = {"q": heads, "k": key_heads, "v": key_heads}
    matrices = [
        _padded_heads(g, g.weight(f"{prefix}.{part}_proj.weight"), prefix, part, config)
        for part in counts
    ]
    matrix = _concatenated(g, matrices, f"{prefix}.qkv_proj")
    joined = g.op("FusedMatMul", x, matrix, name=f"{prefix}.qkv_proj", domain=CONTRIB, transB=1)
    sizes = g.constant([count * width for count in counts.values()])
    q, k, v = g.split("Split", joined, sizes, name=f"{prefix}.qkv", count=3, axis=-1)
    q, k = (head_norm(g, value, prefix, part, config) for value, part in ((q, "q"), (k, "k")))
    output, *cache = g.split(
        "GroupQueryAttention",
        *(q, k, v, *inputs),
        name=f"{prefix}.mix",
        count=3,
        domain=CONTRIB,
        num_heads=heads,
        kv_num_heads=key_heads,
        do_rotary=1,
        scale=config.head_dim**-0.5,
    )
    return output, cache


def output_projection(g: Graph, attended: str, prefix: str, config: LanguageModelConfig) -> str:
    """(B, T, heads * padded D) -> (B, T, H)."""
    out = g.weight(f"{prefix}.o_proj.weight")
    if padded_head(config) != config.head_dim:
        transposed = g.op("Transpose", out, name=f"{prefix}.o_turned", perm=[1, 0])
        padded = _padded_heads(g, transposed, prefix, "o", config)
        out = g.op("Transpose", padded, name=f"{prefix}.o_padded", perm=[1, 0])
    return g.op("FusedMatMul", attended, out, name=f"{prefix}.o_proj", domain=CONTRIB, transB=1)


def _padded_heads(
    g: Graph, weight: str, prefix: str, part: str, config: LanguageModelConfig
) -> str:
    """Zeros behind each half of every head: (heads * D, ...) -> (heads * padded D, ...).

    The runtime's attention requires head widths that are multiples of 16. Both halves are padded,
    so that RoPE still pairs the same elements. Folded at load; published models need no padding.
    """
    half, padded_half = config.head_dim // 2, padded_head(config) // 2
    if half == padded_half:
        return weight
    name = f"{prefix}.{part}_padding"
    cut = g.op("Reshape", weight, g.constant([-1, half, config.hidden_size]), name=f"{name}.cut")
    ends = g.constant([0, 0, 0, 0, padded_half - half, 0])
    padded = g.op("Pad", cut, ends, name=f"{name}.grown")
    return g.op("Reshape", padded, g.constant([-1, config.hidden_size]), name=name)


def head_norm(g: Graph, x: str, prefix: str, part: str, config: LanguageModelConfig) -> str:
    """The RMSNorm of each head of (B, T, heads * D)."""
    name, width = f"{prefix}.{part}_norm", padded_head(config)
    scale, eps = g.weight(f"{name}.weight"), config.rms_norm_eps
    if width != config.head_dim:
        scale, eps = _padded_scale(g, scale, name, config)
    split = g.op("Reshape", x, g.constant([0, 0, -1, width]), name=f"{name}.heads")
    normed = g.op("SimplifiedLayerNormalization", split, scale, name=name, axis=-1, epsilon=eps)
    return g.op("Reshape", normed, g.constant([0, 0, -1]), name=f"{name}.flat")


def _padded_scale(
    g: Graph, scale: str, name: str, config: LanguageModelConfig
) -> tuple[str, float]:
    """Scale and epsilon of an RMSNorm over padded heads, whose mean includes the zeros."""
    half, width = config.head_dim // 2, padded_head(config)
    real = config.head_dim / width  # the fraction that is not padding
    halves = g.op("Reshape", scale, g.constant([2, half]), name=f"{name}.halves")
    ends = g.constant([0, 0, 0, width // 2 - half])
    whole = g.op(
        "Reshape",
        g.op("Pad", halves, ends, name=f"{name}.grown"),
        g.constant([-1]),
        name=f"{name}.whole",
    )
    factor = g.constant(real**0.5, np.float32)
    return g.op("Mul", whole, factor, name=f"{name}.padded"), config.rms_norm_eps * real


def mlp(g: Graph, x: str, prefix: str) -> str:
    """SwiGLU; with a factor of 1, QuickGelu is SiLU."""
    joined = matmul(g, x, [f"{prefix}.gate_proj", f"{prefix}.up_proj"], f"{prefix}.gate_up")
    gate, up = g.split("Split", joined, name=f"{prefix}.parts", count=2, axis=-1, num_outputs=2)
    silu = g.op("QuickGelu", gate, name=f"{prefix}.silu", domain=CONTRIB, alpha=1.0)
    gated = g.op("Mul", silu, up, name=f"{prefix}.product")
    return matmul(g, gated, [f"{prefix}.down_proj"], f"{prefix}.down_proj")
