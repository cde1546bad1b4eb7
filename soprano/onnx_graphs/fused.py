"""The language model as ONNX Runtime runs it best: fused operators, and a cache written in place.

It computes what the standard graph computes, with contrib operators of the runtime
(com.microsoft: GroupQueryAttention, SkipSimplifiedLayerNormalization, FusedMatMul, QuickGelu).
The cache is a buffer of fixed capacity, the same tensor as input and as output: row b's columns
0 to length - 1 are real, whatever lies behind them is never read.
Only the state after each row's last id is carried to the output.
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
    """`input_ids` (B, T) and cache buffers -> `logits` (B, V) and `last_hidden_state` (B, H).

    `last_columns` (B, 1, 1) is the place of each row's last id among the T; `row_lengths` (B,)
    its ids in all, less one; `total_length` the largest of those, plus one; `cos` and `sin` the
    rotations of positions from 0.
    """
    g = Graph("lm_step_fused", weights)
    ids = g.input("input_ids", INT64, ["batch", "new"])
    last = g.input("last_columns", INT64, ["batch", 1, 1])
    attention = [
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
        normed, x = _norm(g, x, added, f"{prefix}.input_layernorm", config)
        inputs = [*past[2 * layer : 2 * layer + 2], *attention]
        mixed, cache = _attention(g, normed, inputs, f"{prefix}.self_attn", config)
        present += cache
        if layer == config.num_hidden_layers - 1:
            # Of the last layer only the keys and values of earlier ids are ever read.
            mixed, x = (
                g.op("GatherND", rows, last, name=f"{prefix}.last.{kind}", batch_dims=1)
                for kind, rows in (("mixed", mixed), ("residual", x))
            )  # (B, 1, H)
        added = _mixed_heads(g, mixed, f"{prefix}.self_attn", config)
        normed, x = _norm(g, x, added, f"{prefix}.post_attention_layernorm", config)
        added = _mlp(g, normed, f"{prefix}.mlp")
    normed, _ = _norm(g, x, added, "model.norm", config)
    hidden = g.op("Squeeze", normed, g.constant([1]), name="last.state")  # (B, H)
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    g.output("logits", FLOAT, ["batch", config.vocab_size], _product(g, hidden, [head], "head"))
    g.output("last_hidden_state", FLOAT, ["batch", config.hidden_size], hidden)
    for (_, name), value in zip(names, present, strict=True):
        # No copy on the way out: the runtime must see that it writes into the input's buffer.
        g.rename(value, name, FLOAT, buffer)
    return g.model()


def _product(g: Graph, x: str, modules: list[str], name: str) -> str:
    """(..., in) -> (..., out of all modules); weights are stored (out, in)."""
    weight = _stacked(g, [g.weight(f"{module}.weight") for module in modules], name)
    return g.op("FusedMatMul", x, weight, name=name, domain=CONTRIB, transB=1)


def _stacked(g: Graph, weights: list[str], name: str) -> str:
    """Matrices one above the other; the runtime folds this at load."""
    return weights[0] if len(weights) == 1 else g.op("Concat", *weights, name=f"{name}.w", axis=0)


def _norm(
    g: Graph, x: str, added: str, module: str, config: LanguageModelConfig
) -> tuple[str, str]:
    """The norm of x + added, and that sum."""
    scale, eps = g.weight(f"{module}.weight"), config.rms_norm_eps
    if not added:
        normed = g.op("SimplifiedLayerNormalization", x, scale, name=module, axis=-1, epsilon=eps)
        return normed, x
    kind = "SkipSimplifiedLayerNormalization"
    outputs = g.split(kind, x, added, scale, name=module, count=4, domain=CONTRIB, epsilon=eps)
    return outputs[0], outputs[3]


def _attention(
    g: Graph, x: str, inputs: list[str], prefix: str, config: LanguageModelConfig
) -> tuple[str, list[str]]:
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    width = padded_head(config)
    counts = {"q": heads, "k": key_heads, "v": key_heads}
    matrices = [
        _padded_heads(g, g.weight(f"{prefix}.{part}_proj.weight"), prefix, part, config)
        for part in counts
    ]
    stacked = _stacked(g, matrices, f"{prefix}.qkv_proj")
    joined = g.op("FusedMatMul", x, stacked, name=f"{prefix}.qkv_proj", domain=CONTRIB, transB=1)
    sizes = g.constant([count * width for count in counts.values()])
    q, k, v = g.split("Split", joined, sizes, name=f"{prefix}.qkv", count=3, axis=-1)
    q, k = (_head_norm(g, value, prefix, part, config) for value, part in ((q, "q"), (k, "k")))
    mixed, *cache = g.split(
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
    return mixed, cache


def _mixed_heads(g: Graph, mixed: str, prefix: str, config: LanguageModelConfig) -> str:
    """What attention adds to the residual, of (B, T, heads * padded D)."""
    out = g.weight(f"{prefix}.o_proj.weight")
    if padded_head(config) != config.head_dim:
        turned = g.op("Transpose", out, name=f"{prefix}.o_turned", perm=[1, 0])
        padded = _padded_heads(g, turned, prefix, "o", config)
        out = g.op("Transpose", padded, name=f"{prefix}.o_padded", perm=[1, 0])
    return g.op("FusedMatMul", mixed, out, name=f"{prefix}.o_proj", domain=CONTRIB, transB=1)


def _padded_heads(
    g: Graph, weight: str, prefix: str, part: str, config: LanguageModelConfig
) -> str:
    """Zeros behind each half of every head: (heads * D, ...) -> (heads * padded D, ...).

    The runtime's attention wants heads of a multiple of 16; halves are padded alike, so that
    element i is still rotated with its partner. Folded at load; published models need none.
    """
    half, wanted = config.head_dim // 2, padded_head(config) // 2
    if half == wanted:
        return weight
    name = f"{prefix}.{part}_padding"
    cut = g.op("Reshape", weight, g.constant([-1, half, config.hidden_size]), name=f"{name}.cut")
    ends = g.constant([0, 0, 0, 0, wanted - half, 0])
    grown = g.op("Pad", cut, ends, name=f"{name}.grown")
    return g.op("Reshape", grown, g.constant([-1, config.hidden_size]), name=name)


def _head_norm(g: Graph, x: str, prefix: str, part: str, config: LanguageModelConfig) -> str:
    """The norm of each head of (B, T, heads * D)."""
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
    """Scale and epsilon of a norm over padded heads, whose mean counts the zeros too."""
    half, width = config.head_dim // 2, padded_head(config)
    share = config.head_dim / width
    halves = g.op("Reshape", scale, g.constant([2, half]), name=f"{name}.halves")
    ends = g.constant([0, 0, 0, width // 2 - half])
    grown = g.op(
        "Reshape",
        g.op("Pad", halves, ends, name=f"{name}.grown"),
        g.constant([-1]),
        name=f"{name}.whole",
    )
    factor = g.constant(share**0.5, np.float32)
    return g.op("Mul", grown, factor, name=f"{name}.padded"), config.rms_norm_eps * share


def _mlp(g: Graph, x: str, prefix: str) -> str:
    joined = _product(g, x, [f"{prefix}.gate_proj", f"{prefix}.up_proj"], f"{prefix}.gate_up")
    gate, up = g.split("Split", joined, name=f"{prefix}.parts", count=2, axis=-1, num_outputs=2)
    opened = g.op("QuickGelu", gate, name=f"{prefix}.silu", domain=CONTRIB, alpha=1.0)
    product = g.op("Mul", opened, up, name=f"{prefix}.product")
    return _product(g, product, [f"{prefix}.down_proj"], f"{prefix}.down_proj")
