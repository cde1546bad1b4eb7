"""The two networks as ONNX graphs, written node by node from the config.

The language model is one graph for prefill and step, with the input and output names that
community exports of causal models use; the decoder ends at the spectrum.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from soprano.config import LAYER_NORM_EPS, MAGNITUDE_LIMIT, DecoderConfig, LanguageModelConfig
from soprano.export.graph import Graph, Weights
from soprano.export.names import cache_names

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
    logits = _linear(g, hidden, head, name="lm_head.product")
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


def _linear(g: Graph, x: str, module: str, *, name: str = "", bias: bool = False) -> str:
    """(N, in) -> (N, out); weights are stored (out, in)."""
    inputs = [x, g.weight(f"{module}.weight"), *([g.weight(f"{module}.bias")] if bias else [])]
    return g.op("Gemm", *inputs, name=name or module, transB=1)


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
        projected = _linear(g, x, f"{prefix}.{part}_proj")
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
    return _linear(g, flat, f"{prefix}.o_proj"), [keys, values]


def _mlp(g: Graph, x: str, prefix: str) -> str:
    prefix = f"{prefix}.mlp"
    gate = _linear(g, x, f"{prefix}.gate_proj")
    sigmoid = g.op("Sigmoid", gate, name=f"{prefix}.sigmoid")
    opened = g.op("Mul", gate, sigmoid, name=f"{prefix}.silu")
    product = g.op("Mul", opened, _linear(g, x, f"{prefix}.up_proj"), name=f"{prefix}.product")
    return _linear(g, product, f"{prefix}.down_proj")


def decoder_graph(config: DecoderConfig, weights: Weights) -> onnx.ModelProto:
    """`hidden_states` (B, T, H), T at least 1 -> `spectrum` (B, F, T', 2)."""
    g = Graph("decoder", weights)
    hidden = g.input("hidden_states", FLOAT, ["batch", "tokens", config.input_size])
    frames = _interpolate(g, hidden, config)  # (B, T', H)
    x = _convolve(g, frames, "decoder.embed", config.input_kernel_size, groups=1)
    x = _layer_norm(g, x, "decoder.norm")  # (B, T', C)
    for block in range(config.num_layers):
        x = _convnext(g, x, f"decoder.convnext.{block}", config)
    x = _layer_norm(g, x, "decoder.final_layer_norm")
    g.output("spectrum", FLOAT, ["batch", config.bins, "frames", 2], _head(g, x, config))
    return g.model()


def _interpolate(g: Graph, hidden: str, config: DecoderConfig) -> str:
    """(B, T, H) -> (B, up * (T - 1) + 1, H): linear, both ends kept (align_corners)."""
    up = config.frames_per_token
    if up == 1:
        return hidden
    one = g.constant(1)
    shape = g.op("Shape", hidden, name="tokens.shape")
    tokens = g.op("Gather", shape, one, name="tokens")
    last = g.op("Sub", tokens, one, name="tokens.last")
    following = g.op(
        "Range", one, g.op("Add", tokens, one, name="tokens.end"), one, name="following"
    )
    following = g.op("Min", following, last, name="following.clipped")
    ahead = g.op("Gather", hidden, following, name="ahead", axis=1)  # the last token twice
    share = np.arange(up, dtype=np.float32)[:, None] / up  # (up, 1)
    parts = [
        g.op(
            "Mul",
            g.op("Unsqueeze", value, g.constant([2]), name=f"{name}.unsqueezed"),
            g.constant(weight, np.float32),
            name=f"{name}.share",
        )
        for name, value, weight in (("here", hidden, 1 - share), ("next", ahead, share))
    ]
    mixed = g.op("Add", *parts, name="interpolated")  # (B, T, up, H)
    joined = g.op(
        "Reshape", mixed, g.constant([0, -1, config.input_size]), name="interpolated.rows"
    )
    ends = (g.constant([0]), g.constant([1 - up]), g.constant([1]))
    return g.op("Slice", joined, *ends, name="frames")


def _convolve(g: Graph, x: str, module: str, kernel: int, groups: int) -> str:
    """(B, T', in) -> (B, T', out), zero-padded to the same length."""
    turned = g.op("Transpose", x, name=f"{module}.channels_first", perm=[0, 2, 1])
    weights = g.weight(f"{module}.weight"), g.weight(f"{module}.bias")
    y = g.op("Conv", turned, *weights, name=module, group=groups, pads=[kernel // 2] * 2)
    return g.op("Transpose", y, name=f"{module}.channels_last", perm=[0, 2, 1])


def _layer_norm(g: Graph, x: str, module: str) -> str:
    scale, bias = g.weight(f"{module}.weight"), g.weight(f"{module}.bias")
    return g.op("LayerNormalization", x, scale, bias, name=module, axis=-1, epsilon=LAYER_NORM_EPS)


def _convnext(g: Graph, x: str, module: str, config: DecoderConfig) -> str:
    y = _convolve(g, x, f"{module}.dwconv", config.kernel_size, groups=config.dim)
    y = _layer_norm(g, y, f"{module}.norm")
    y = g.op("Reshape", y, g.constant([-1, config.dim]), name=f"{module}.flat")
    y = _linear(g, y, f"{module}.pwconv1", bias=True)
    y = g.op("Gelu", y, name=f"{module}.gelu", approximate="none")
    y = _linear(g, y, f"{module}.pwconv2", bias=True)
    y = g.op("Reshape", y, g.op("Shape", x, name=f"{module}.shape"), name=f"{module}.rows")
    # Behind the reshape: OpenVINO folds a factor right behind a product into its matrix, and would
    # widen a quantised one for that.
    y = g.op("Mul", y, g.weight(f"{module}.gamma"), name=f"{module}.scaled")
    return g.op("Add", x, y, name=module)


def _head(g: Graph, x: str, config: DecoderConfig) -> str:
    """(B, T', C) -> (B, F, T', 2)."""
    flat = g.op("Reshape", x, g.constant([-1, config.dim]), name="head.flat")
    product = _linear(g, flat, "head.out", bias=True)
    frames = g.op("Shape", x, name="head.shape", start=0, end=2)
    rows = g.op("Concat", frames, g.constant([config.n_fft + 2]), name="head.rows", axis=0)
    raw = g.op("Reshape", product, rows, name="head.raw")
    log_magnitude, phase = g.split("Split", raw, name="head.parts", count=2, axis=-1, num_outputs=2)
    magnitude = g.op("Exp", log_magnitude, name="head.exp")
    limit = g.constant(MAGNITUDE_LIMIT, np.float32)
    magnitude = g.op("Min", magnitude, limit, name="head.clipped")
    inner = np.ones(config.bins, np.float32)
    inner[[0, -1]] = 0  # DC and Nyquist
    magnitude = g.op("Mul", magnitude, g.constant(inner, np.float32), name="head.magnitude")
    parts = [
        g.op(
            "Unsqueeze",
            g.op("Mul", magnitude, g.op(wave, phase, name=f"head.{wave}"), name=f"head.{part}"),
            g.constant([3]),
            name=f"head.{part}.column",
        )
        for wave, part in (("Cos", "real"), ("Sin", "imaginary"))
    ]
    pairs = g.op("Concat", *parts, name="head.pairs", axis=3)  # (B, T', F, 2)
    return g.op("Transpose", pairs, name="head.spectrum", perm=[0, 2, 1, 3])
