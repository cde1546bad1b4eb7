"""The language model as a standard ONNX graph, written node by node from the config.

One graph serves prefill and decode step. Input and output names are those of community exports of
causal language models.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.writer import Graph, Weights, linear

INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def language_model_graph(config: LanguageModelConfig, weights: Weights) -> onnx.ModelProto:
    """`input_ids` (B, T) and a cache of S columns -> `logits`, `last_hidden_state`, `present`."""
    g = Graph("lm_step", weights)
    ids = g.input("input_ids", INT64, ["batch", "new"])
    mask = g.input("attention_mask", INT64, ["batch", "total"])
    positions = g.input("position_ids", INT64, ["batch", "new"])
    heads, width = config.num_key_value_heads, config.head_dim
    names = cache_names(config.num_hidden_layers)
    past = [g.input(name, FLOAT, ["batch", heads, "past", width]) for name, _ in names]

    # Everything but attention works on one list of N = B * T tokens.
    flat = g.op("Reshape", ids, g.constant([-1]), name="tokens")
    narrow = g.op("Gather", g.stored_weight("model.embed_tokens.weight"), flat, name="embedding")
    x = g.op("Cast", narrow, name="embedding.float32", to=FLOAT)  # (N, H)
    shape = g.op("Shape", ids, name="shape")  # B, T
    rotary = rotary_embedding(g, positions, config)
    visible = causal_mask(g, mask, shape, config)
    present: list[str] = []
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = rms_norm(g, x, f"{prefix}.input_layernorm", config)
        attended, cache = attention(
            g, normed, shape, rotary, visible, past[2 * layer : 2 * layer + 2], prefix, config
        )
        present += cache
        x = g.op("Add", x, attended, name=f"{prefix}.after_attention")
        normed = rms_norm(g, x, f"{prefix}.post_attention_layernorm", config)
        x = g.op("Add", x, mlp(g, normed, prefix), name=f"{prefix}.after_mlp")
    hidden = rms_norm(g, x, "model.norm", config)
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    logits = linear(g, hidden, head, name="lm_head.product")
    for name, value, size in (
        ("logits", logits, config.vocab_size),
        ("last_hidden_state", hidden, config.hidden_size),
    ):
        rows = g.op("Concat", shape, g.constant([size]), name=f"{name}.shape", axis=0)
        g.output(
            name, FLOAT, ["batch", "new", size], g.op("Reshape", value, rows, name=f"{name}.rows")
        )
    for (_, name), value in zip(names, present, strict=True):
        g.output(name, FLOAT, ["batch", heads, "total", width], value)
    return g.model()


def hidden_state_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with `last_hidden_state` as its last output."""
    outputs = sorted(model.graph.output, key=lambda value: value.name == "last_hidden_state")
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


def rms_norm(g: Graph, x: str, module: str, config: LanguageModelConfig) -> str:
    square = g.op("Pow", x, g.constant(2, np.float32), name=f"{module}.square")
    mean = g.op("ReduceMean", square, g.constant([-1]), name=f"{module}.mean", keepdims=1)
    eps = g.constant(config.rms_norm_eps, np.float32)
    root = g.op("Sqrt", g.op("Add", mean, eps, name=f"{module}.eps"), name=f"{module}.root")
    scaled = g.op("Div", x, root, name=f"{module}.scaled")
    return g.op("Mul", scaled, g.weight(f"{module}.weight"), name=module)


def rotary_embedding(g: Graph, positions: str, config: LanguageModelConfig) -> tuple[str, str]:
    """Cos and sin (B, T, 1, D/2) of any position."""
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    frequencies = g.constant(config.rope_theta**-exponents, np.float32)
    positions = g.op("Cast", positions, name="rope.positions", to=FLOAT)
    positions = g.op("Unsqueeze", positions, g.constant([2, 3]), name="rope.places")  # (B, T, 1, 1)
    angles = g.op("Mul", positions, frequencies, name="rope.angles")
    return g.op("Cos", angles, name="rope.cos"), g.op("Sin", angles, name="rope.sin")


def apply_rotary(g: Graph, x: str, rotary: tuple[str, str], name: str) -> str:
    """Half-split RoPE on (B, T, heads, D)."""
    cos, sin = rotary
    a, b = g.split("Split", x, name=f"{name}.halves", count=2, axis=-1, num_outputs=2)

    def times(value: str, factor: str, part: str) -> str:
        return g.op("Mul", value, factor, name=f"{name}.{part}")

    first = g.op("Sub", times(a, cos, "a_cos"), times(b, sin, "b_sin"), name=f"{name}.first")
    second = g.op("Add", times(b, cos, "b_cos"), times(a, sin, "a_sin"), name=f"{name}.second")
    return g.op("Concat", first, second, name=f"{name}.rope", axis=-1)


def causal_mask(g: Graph, mask: str, shape: str, config: LanguageModelConfig) -> str:
    """Which of S columns each query attends to: (B, 1, G * T, S), G query heads a key head."""
    zero, one = g.constant(0), g.constant(1)
    new = g.op("Gather", shape, one, name="mask.new")
    total = g.op("Gather", g.op("Shape", mask, name="mask.shape"), one, name="mask.total")
    columns = g.op("Range", zero, total, one, name="mask.columns")
    first = g.op("Sub", total, new, name="mask.first")
    queries = g.op("Range", first, total, one, name="mask.queries")
    queries = g.op("Unsqueeze", queries, g.constant([1]), name="mask.query_column")
    causal = g.op("LessOrEqual", columns, queries, name="mask.causal")  # (T, S)
    real = g.op("Cast", mask, name="mask.real", to=TensorProto.BOOL)
    real = g.op("Unsqueeze", real, g.constant([1, 2]), name="mask.real_columns")  # (B, 1, 1, S)
    both = g.op("And", real, causal, name="mask.allowed")  # (B, 1, T, S)
    groups = config.num_attention_heads // config.num_key_value_heads
    return g.op("Tile", both, g.constant([1, 1, groups, 1]), name="mask.grouped")


def attention(
    g: Graph,
    x: str,
    shape: str,
    rotary: tuple[str, str],
    visible: str,
    past: list[str],
    prefix: str,
    config: LanguageModelConfig,
) -> tuple[str, list[str]]:
    """The attention output (N, H) of x (N, H), and the longer keys and values."""
    prefix = f"{prefix}.self_attn"
    width, key_heads = config.head_dim, config.num_key_value_heads

    def heads(part: str, count: int) -> str:
        projected = linear(g, x, f"{prefix}.{part}_proj")
        rows = g.op(
            "Concat", shape, g.constant([count, width]), name=f"{prefix}.{part}_shape", axis=0
        )
        return g.op("Reshape", projected, rows, name=f"{prefix}.{part}_heads")  # (B, T, heads, D)

    def rotated(part: str, count: int) -> str:
        normed = rms_norm(g, heads(part, count), f"{prefix}.{part}_norm", config)
        return apply_rotary(g, normed, rotary, f"{prefix}.{part}")

    q = _swap_heads(g, rotated("q", config.num_attention_heads), f"{prefix}.q")
    k = _swap_heads(g, rotated("k", key_heads), f"{prefix}.k")
    keys = g.op("Concat", past[0], k, name=f"{prefix}.keys", axis=2)
    v = _swap_heads(g, heads("v", key_heads), f"{prefix}.v")
    values = g.op("Concat", past[1], v, name=f"{prefix}.values", axis=2)
    flat = attend(g, q, keys, values, visible, prefix, config)
    return linear(g, flat, f"{prefix}.o_proj"), [keys, values]


def attend(
    g: Graph,
    q: str,
    keys: str,
    values: str,
    visible: str,
    prefix: str,
    config: LanguageModelConfig,
) -> str:
    """Queries (B, heads, T, D) on keys and values (B, KV, S, D) -> (N, heads * D)."""
    heads, key_heads, width = (
        config.num_attention_heads, config.num_key_value_heads, config.head_dim,
    )  # fmt: skip
    # The query heads of one key head become further queries of it: no key is repeated.
    grouped = g.op("Reshape", q, g.constant([0, key_heads, -1, width]), name=f"{prefix}.grouped")
    scaled = g.op("Mul", grouped, g.constant(width**-0.5, np.float32), name=f"{prefix}.scaled")
    transposed = g.op("Transpose", keys, name=f"{prefix}.keys_turned", perm=[0, 1, 3, 2])
    scores = g.op("MatMul", scaled, transposed, name=f"{prefix}.scores")  # (B, KV, G * T, S)
    # The smallest finite number, not -inf: a row that attends to nothing must not become NaN.
    lowest = g.constant(np.finfo(np.float32).min, np.float32)
    masked = g.op("Where", visible, scores, lowest, name=f"{prefix}.masked")
    weights = g.op("Softmax", masked, name=f"{prefix}.shares", axis=-1)
    output = g.op("MatMul", weights, values, name=f"{prefix}.mixed")
    # (B, KV, G * T, D) -> (B, heads, T, D) -> (B, T, heads, D) -> (N, heads * D)
    split_shape = g.constant([0, heads, -1, width])
    split = _swap_heads(
        g, g.op("Reshape", output, split_shape, name=f"{prefix}.mix_heads"), f"{prefix}.mix"
    )
    return g.op("Reshape", split, g.constant([-1, heads * width]), name=f"{prefix}.mix_flat")


def _swap_heads(g: Graph, x: str, name: str) -> str:
    """(B, T, heads, D) -> (B, heads, T, D), or back."""
    return g.op("Transpose", x, name=f"{name}_by_head", perm=[0, 2, 1, 3])


def mlp(g: Graph, x: str, prefix: str) -> str:
    """SwiGLU on (N, H)."""
    prefix = f"{prefix}.mlp"
    gate = linear(g, x, f"{prefix}.gate_proj")
    sigmoid = g.op("Sigmoid", gate, name=f"{prefix}.sigmoid")
    silu = g.op("Mul", gate, sigmoid, name=f"{prefix}.silu")
    gated = g.op("Mul", silu, linear(g, x, f"{prefix}.up_proj"), name=f"{prefix}.product")
    return linear(g, gated, f"{prefix}.down_proj")
