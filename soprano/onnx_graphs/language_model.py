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

    # The rows' tokens are one list of N = B * T for everything but attention.
    flat = g.op("Reshape", ids, g.constant([-1]), name="tokens")
    stored = g.op("Gather", g.stored_weight("model.embed_tokens.weight"), flat, name="embedding")
    x = g.op("Cast", stored, name="embedding.float32", to=FLOAT)  # (N, H)
    shape = g.op("Shape", ids, name="shape")  # B, T
    rotation = _rotation(g, positions, config)
    allowed = _allowed(g, mask, shape, config)
    present: list[str] = []
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = _rms_norm(g, x, f"{prefix}.input_layernorm", config)
        mixed, cache = _attention(
            g, normed, shape, rotation, allowed, past[2 * layer : 2 * layer + 2], prefix, config
        )
        present += cache
        x = g.op("Add", x, mixed, name=f"{prefix}.after_attention")
        normed = _rms_norm(g, x, f"{prefix}.post_attention_layernorm", config)
        x = g.op("Add", x, _mlp(g, normed, prefix), name=f"{prefix}.after_mlp")
    hidden = _rms_norm(g, x, "model.norm", config)
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


def _rms_norm(g: Graph, x: str, module: str, config: LanguageModelConfig) -> str:
    square = g.op("Pow", x, g.constant(2, np.float32), name=f"{module}.square")
    mean = g.op("ReduceMean", square, g.constant([-1]), name=f"{module}.mean", keepdims=1)
    eps = g.constant(config.rms_norm_eps, np.float32)
    root = g.op("Sqrt", g.op("Add", mean, eps, name=f"{module}.eps"), name=f"{module}.root")
    scaled = g.op("Div", x, root, name=f"{module}.scaled")
    return g.op("Mul", scaled, g.weight(f"{module}.weight"), name=module)


def _rotation(g: Graph, positions: str, config: LanguageModelConfig) -> tuple[str, str]:
    """Cosines and sines (B, T, 1, D/2) of the angles at any position."""
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    frequencies = g.constant(config.rope_theta**-exponents, np.float32)
    places = g.op("Cast", positions, name="rope.positions", to=FLOAT)
    places = g.op("Unsqueeze", places, g.constant([2, 3]), name="rope.places")  # (B, T, 1, 1)
    angles = g.op("Mul", places, frequencies, name="rope.angles")
    return g.op("Cos", angles, name="rope.cos"), g.op("Sin", angles, name="rope.sin")


def _rotate(g: Graph, x: str, rotation: tuple[str, str], name: str) -> str:
    """Half-split RoPE on (B, T, heads, D)."""
    cos, sin = rotation
    a, b = g.split("Split", x, name=f"{name}.halves", count=2, axis=-1, num_outputs=2)

    def times(value: str, factor: str, part: str) -> str:
        return g.op("Mul", value, factor, name=f"{name}.{part}")

    first = g.op("Sub", times(a, cos, "a_cos"), times(b, sin, "b_sin"), name=f"{name}.first")
    second = g.op("Add", times(b, cos, "b_cos"), times(a, sin, "a_sin"), name=f"{name}.second")
    return g.op("Concat", first, second, name=f"{name}.rope", axis=-1)


def _allowed(g: Graph, mask: str, shape: str, config: LanguageModelConfig) -> str:
    """Which of S columns each query may see: (B, 1, G * T, S), G query heads a key head."""
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


def _attention(
    g: Graph,
    x: str,
    shape: str,
    rotation: tuple[str, str],
    allowed: str,
    past: list[str],
    prefix: str,
    config: LanguageModelConfig,
) -> tuple[str, list[str]]:
    prefix = f"{prefix}.self_attn"
    width, key_heads = config.head_dim, config.num_key_value_heads

    def heads(part: str, count: int) -> str:
        projected = linear(g, x, f"{prefix}.{part}_proj")
        rows = g.op(
            "Concat", shape, g.constant([count, width]), name=f"{prefix}.{part}_shape", axis=0
        )
        return g.op("Reshape", projected, rows, name=f"{prefix}.{part}_heads")  # (B, T, heads, D)

    def placed(part: str, count: int) -> str:
        normed = _rms_norm(g, heads(part, count), f"{prefix}.{part}_norm", config)
        return _rotate(g, normed, rotation, f"{prefix}.{part}")

    def by_head(value: str, part: str) -> str:
        return g.op("Transpose", value, name=f"{prefix}.{part}_by_head", perm=[0, 2, 1, 3])

    q = by_head(placed("q", config.num_attention_heads), "q")  # (B, heads, T, D)
    keys = g.op(
        "Concat", past[0], by_head(placed("k", key_heads), "k"), name=f"{prefix}.keys", axis=2
    )
    v = by_head(heads("v", key_heads), "v")
    values = g.op("Concat", past[1], v, name=f"{prefix}.values", axis=2)
    # The query heads of one key head are further queries of it: no key is repeated.
    grouped = g.op("Reshape", q, g.constant([0, key_heads, -1, width]), name=f"{prefix}.grouped")
    scaled = g.op("Mul", grouped, g.constant(width**-0.5, np.float32), name=f"{prefix}.scaled")
    turned = g.op("Transpose", keys, name=f"{prefix}.keys_turned", perm=[0, 1, 3, 2])
    scores = g.op("MatMul", scaled, turned, name=f"{prefix}.scores")  # (B, KV, G * T, S)
    # The least finite number and not -inf: a row that may see nothing must not become NaN.
    lowest = g.constant(np.finfo(np.float32).min, np.float32)
    masked = g.op("Where", allowed, scores, lowest, name=f"{prefix}.masked")
    shares = g.op("Softmax", masked, name=f"{prefix}.shares", axis=-1)
    mixed = g.op("MatMul", shares, values, name=f"{prefix}.mixed")
    size = config.num_attention_heads * width
    # (B, KV, G * T, D) -> (B, heads, T, D) -> (B, T, heads, D) -> (N, heads * D)
    rows = g.constant([0, config.num_attention_heads, -1, width])
    split = by_head(g.op("Reshape", mixed, rows, name=f"{prefix}.mix_heads"), "mix")
    flat = g.op("Reshape", split, g.constant([-1, size]), name=f"{prefix}.mix_flat")
    return linear(g, flat, f"{prefix}.o_proj"), [keys, values]


def _mlp(g: Graph, x: str, prefix: str) -> str:
    prefix = f"{prefix}.mlp"
    gate = linear(g, x, f"{prefix}.gate_proj")
    sigmoid = g.op("Sigmoid", gate, name=f"{prefix}.sigmoid")
    opened = g.op("Mul", gate, sigmoid, name=f"{prefix}.silu")
    product = g.op("Mul", opened, linear(g, x, f"{prefix}.up_proj"), name=f"{prefix}.product")
    return linear(g, product, f"{prefix}.down_proj")
