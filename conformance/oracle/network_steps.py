"""Both networks as named steps, whose inputs may be given: for the search for a wrong node.

Each step is evaluated in float64 on inputs of float32, as a runtime would be given them, and in
float32, whose error is the noise floor of that step. The names are those of the modules of the
checkpoint and of the nodes of this package's ONNX graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from soprano.config import LAYER_NORM_EPS, MAGNITUDE_LIMIT, DecoderConfig, LanguageModelConfig

Array = npt.NDArray[Any]
Compute = Callable[..., Array]  # inputs in one type -> the output in that type


@dataclass(frozen=True)
class Step:
    """One named value: how it follows from earlier ones and from weights of the checkpoint."""

    name: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    compute: Compute
    kind: str  # what it is, by which known wrong conventions replace it
    aliases: tuple[str, ...] = ()  # other names of the same value


@dataclass(frozen=True)
class Value:
    """A step's output on the given inputs, and the float32 error of that step alone."""

    expected: Array  # float64
    floor: float  # RMS


def evaluate(
    steps: Sequence[Step], weights: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[str, Value]:
    """Every step's output, each from the rounded outputs before it."""
    given: dict[str, Array] = dict(inputs)
    found: dict[str, Value] = {}
    for step in steps:
        arguments = [given[name] for name in step.inputs]
        matrices = [np.asarray(weights[name], np.float32) for name in step.weights]
        wide = step.compute(*(_to(a, np.float64) for a in (*arguments, *matrices)))
        narrow = step.compute(*(_to(a, np.float32) for a in (*arguments, *matrices)))
        error = np.asarray(narrow, np.float64) - wide
        # A result that float32 gives exactly has the noise of its own rounding.
        rounding = float(np.finfo(np.float32).eps) / 4 * _rms(wide)
        found[step.name] = Value(wide, max(_rms(error), rounding))
        given[step.name] = wide.astype(np.float32)
    return found


def _to(values: Array, dtype: Any) -> Array:
    return values.astype(dtype) if values.dtype.kind == "f" else values


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def replaced(steps: Sequence[Step], change: Callable[[Step], Step]) -> list[Step]:
    return [change(step) for step in steps]


# --- the language model; x has one row for each position (T, ...) ---


def language_model_steps(config: LanguageModelConfig) -> list[Step]:
    """From "ids" (T,) to "logits" (T, V) and "last_hidden_state" (T, H)."""
    return list(_language_model(config))


def _language_model(config: LanguageModelConfig) -> Iterator[Step]:
    yield Step(
        "embedding.float32", ("ids",), ("model.embed_tokens.weight",),
        lambda ids, table: table[ids], "embedding", ("embedding", "model.embed_tokens"),
    )  # fmt: skip
    x = "embedding.float32"
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        yield from _attention(config, x, prefix)
        after = f"{prefix}.after_attention"
        yield Step(after, (x, f"{prefix}.self_attn.o_proj"), (), np.add, "residual")
        yield from _mlp(config, after, prefix)
        x = f"{prefix}.after_mlp"
        yield Step(x, (after, f"{prefix}.mlp.down_proj"), (), np.add, "residual", (prefix,))
    yield rms_norm("model.norm", x, config)
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    yield _linear("lm_head.product", "model.norm", head, ("lm_head",))
    for name, value in (("last_hidden_state", "model.norm"), ("logits", "lm_head.product")):
        yield Step(name, (value,), (), lambda x: x, "output")


def rms_norm(name: str, x: str, config: LanguageModelConfig, aliases: tuple[str, ...] = ()) -> Step:
    return Step(
        name, (x,), (f"{name}.weight",), rms_norm_with(config.rms_norm_eps), "RMSNorm", aliases
    )


def rms_norm_with(eps: float) -> Compute:
    def norm(x: Array, weight: Array) -> Array:
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean + x.dtype.type(eps)) * weight

    return norm


def _linear(name: str, x: str, module: str, aliases: tuple[str, ...] = ()) -> Step:
    return Step(name, (x,), (f"{module}.weight",), lambda x, w: x @ w.T, "matmul", aliases)


def _attention(config: LanguageModelConfig, x: str, layer: str) -> Iterator[Step]:
    prefix, width = f"{layer}.self_attn", config.head_dim
    yield rms_norm(f"{layer}.input_layernorm", x, config)
    for part in ("q", "k", "v"):
        name = f"{prefix}.{part}_proj"
        yield _linear(name, f"{layer}.input_layernorm", name)
    for part in ("q", "k"):
        heads = f"{prefix}.{part}_heads"
        yield Step(
            heads, (f"{prefix}.{part}_proj",), (), lambda x: x.reshape(len(x), -1, width), "heads"
        )
        yield rms_norm(f"{prefix}.{part}_norm", heads, config)
        yield Step(
            f"{prefix}.{part}.rope", (f"{prefix}.{part}_norm",), (), rotation(config), "RoPE"
        )
    yield Step(
        f"{prefix}.mix_flat",
        (f"{prefix}.q.rope", f"{prefix}.k.rope", f"{prefix}.v_proj"), (), attention(config),
        "attention",
    )  # fmt: skip
    yield _linear(f"{prefix}.o_proj", f"{prefix}.mix_flat", f"{prefix}.o_proj")


def rotation(
    config: LanguageModelConfig,
    theta: float | None = None,
    pairs: Callable[[Array], tuple[Array, Array]] | None = None,
) -> Compute:
    """RoPE on (T, heads, D), of channels i and i + D/2 unless `pairs` are others."""
    half = config.head_dim // 2
    frequencies = (theta or config.rope_theta) ** -(np.arange(half) / half)

    def rotate(x: Array) -> Array:
        angles = np.arange(len(x))[:, None] * frequencies.astype(x.dtype)
        cos, sin = (wave(angles.astype(x.dtype))[:, None] for wave in (np.cos, np.sin))
        if pairs is None:
            one, other = x[..., :half], x[..., half:]
            return np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)
        one, other = pairs(x)
        rotated = np.stack([one * cos - other * sin, other * cos + one * sin], axis=-1)
        return rotated.reshape(x.shape)

    return rotate


def attention(
    config: LanguageModelConfig, scale: float | None = None, *, turns: bool = False
) -> Compute:
    """Attention output (T, heads * D); with `turns`, query heads use the key heads in turn."""
    heads, keys, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    factor = scale or width**-0.5

    def attend(q: Array, k: Array, v: Array) -> Array:
        count = len(q)
        values = v.reshape(count, keys, width)
        order = np.arange(heads) % keys if turns else np.arange(heads) // (heads // keys)
        scores = np.einsum("thd,shd->hts", q, k[:, order]) * q.dtype.type(factor)
        scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", weights, values[:, order])
        return mixed.reshape(count, heads * width)

    return attend


def _mlp(config: LanguageModelConfig, x: str, layer: str) -> Iterator[Step]:
    norm, prefix = f"{layer}.post_attention_layernorm", f"{layer}.mlp"
    yield rms_norm(norm, x, config)
    yield _linear(f"{prefix}.gate_proj", norm, f"{prefix}.gate_proj")
    yield _linear(f"{prefix}.up_proj", norm, f"{prefix}.up_proj")
    yield Step(
        f"{prefix}.product", (f"{prefix}.gate_proj", f"{prefix}.up_proj"), (),
        lambda gate, up: gate * expit(gate) * up, "SwiGLU",
    )  # fmt: skip
    yield _linear(f"{prefix}.down_proj", f"{prefix}.product", f"{prefix}.down_proj")


# --- the decoder; x has one row for each frame (T', C) ---


def decoder_steps(config: DecoderConfig) -> list[Step]:
    """From "hidden_states" (T, H) to "spectrum" (F, T', 2)."""
    return list(_decoder(config))


def _decoder(config: DecoderConfig) -> Iterator[Step]:
    yield Step("frames", ("hidden_states",), (), interpolation(config), "interpolation")
    yield _convolution("decoder.embed", "frames", convolve, "decoder.embed.channels_last")
    yield _layer_norm("decoder.norm", "decoder.embed")
    x = "decoder.norm"
    for block in range(config.num_layers):
        name = f"decoder.convnext.{block}"
        yield _convolution(f"{name}.dwconv", x, depthwise, f"{name}.dwconv.channels_last")
        yield _layer_norm(f"{name}.norm", f"{name}.dwconv", (f"{name}.flat",))
        yield _affine(f"{name}.pwconv1", f"{name}.norm")
        yield Step(f"{name}.gelu", (f"{name}.pwconv1",), (), gelu, "GELU")
        yield _affine(f"{name}.pwconv2", f"{name}.gelu", (f"{name}.rows",))
        yield Step(
            f"{name}.scaled", (f"{name}.pwconv2",), (f"{name}.gamma",), np.multiply, "layer scale"
        )
        yield Step(name, (x, f"{name}.scaled"), (), np.add, "residual")
        x = name
    yield _layer_norm("decoder.final_layer_norm", x, ("head.flat",))
    yield _affine("head.out", "decoder.final_layer_norm", ("head.raw",))
    yield Step("head.magnitude", ("head.out",), (), magnitude(config), "magnitude")
    yield Step(
        "head.phase", ("head.out",), (), lambda out: out[:, config.bins :], "phase",
        ("head.parts.1",),
    )  # fmt: skip
    for part, function, alias in (("cos", np.cos, "head.Cos"), ("sin", np.sin, "head.Sin")):
        yield Step(f"head.{part}", ("head.phase",), (), function, part, (alias,))
    for part, angle in (("real", "cos"), ("imaginary", "sin")):
        yield Step(f"head.{part}", ("head.magnitude", f"head.{angle}"), (), np.multiply, part)
    yield Step(
        "head.pairs", ("head.real", "head.imaginary"), (),
        lambda real, imaginary: np.stack([real, imaginary], axis=-1), "pairs",
    )  # fmt: skip
    yield Step("spectrum", ("head.pairs",), (), lambda x: x.transpose(1, 0, 2), "output")


def interpolation(config: DecoderConfig, shift: float = 0.0) -> Compute:
    """Linear interpolation (T, H) -> (T', H) with align_corners, or `shift` tokens later."""
    up = config.frames_per_token

    def interpolate(hidden: Array) -> Array:
        places = np.clip(np.arange(up * (len(hidden) - 1) + 1) / up + shift, 0, len(hidden) - 1)
        first = np.minimum(places.astype(int), len(hidden) - 1)
        after = np.minimum(first + 1, len(hidden) - 1)
        share = (places - first).astype(hidden.dtype)[:, None]
        return hidden[first] * (1 - share) + hidden[after] * share

    return interpolate


def _convolution(name: str, x: str, compute: Compute, alias: str) -> Step:
    return Step(name, (x,), (f"{name}.weight", f"{name}.bias"), compute, "convolution", (alias,))


def taps(x: Array, kernel: int, mode: str = "constant") -> list[Array]:
    padded = np.pad(x, ((kernel // 2, kernel // 2), (0, 0)), mode)  # type: ignore[call-overload]
    return [padded[tap : tap + len(x)] for tap in range(kernel)]


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    return bias + sum(tap @ weight[:, :, i].T for i, tap in enumerate(taps(x, weight.shape[2])))


def depthwise(x: Array, weight: Array, bias: Array) -> Array:
    return bias + sum(tap * weight[:, 0, i] for i, tap in enumerate(taps(x, weight.shape[2])))


def _layer_norm(name: str, x: str, aliases: tuple[str, ...] = ()) -> Step:
    weights = f"{name}.weight", f"{name}.bias"
    return Step(name, (x,), weights, layer_norm_with(LAYER_NORM_EPS), "LayerNorm", aliases)


def layer_norm_with(eps: float) -> Compute:
    def norm(x: Array, weight: Array, bias: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        return centred / np.sqrt(variance + x.dtype.type(eps)) * weight + bias

    return norm


def _affine(name: str, x: str, aliases: tuple[str, ...] = ()) -> Step:
    weights = f"{name}.weight", f"{name}.bias"
    return Step(name, (x,), weights, lambda x, w, b: x @ w.T + b, "matmul", aliases)


def gelu(x: Array) -> Array:
    root = x.dtype.type(2**0.5)
    return x * (1 + erf(x / root)) / 2


def gelu_by_tanh(x: Array) -> Array:
    inner = (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)
    return x * (1 + np.tanh(inner.astype(x.dtype))) / 2


def magnitude(
    config: DecoderConfig, *, clip: float = MAGNITUDE_LIMIT, edges: bool = False
) -> Compute:
    """Magnitudes (T', F) of the head's outputs; `edges` keeps DC and Nyquist."""

    def clipped(out: Array) -> Array:
        with np.errstate(over="ignore"):
            found = np.minimum(np.exp(out[:, : config.bins]), out.dtype.type(clip))
        if not edges:
            found[:, [0, -1]] = 0
        return found

    return clipped


# --- known wrong conventions of steps ---


def wrong_steps(
    language_model: LanguageModelConfig, decoder: DecoderConfig
) -> Iterator[tuple[str, str, Compute]]:
    """The name of a convention, the kind of step that it replaces, and what it computes."""
    width, heads = language_model.hidden_size, language_model.num_attention_heads
    yield "GELU by tanh", "GELU", gelu_by_tanh
    yield "GELU by a sigmoid", "GELU", lambda x: x * expit(x.dtype.type(1.702) * x)
    yield "SiLU instead of GELU", "GELU", lambda x: x * expit(x)
    for eps in (1e-5, 1e-6, 1e-8, 1e-3, 1e-12):
        if eps != language_model.rms_norm_eps:
            yield f"an epsilon of {eps:g} in the RMSNorm", "RMSNorm", rms_norm_with(eps)
        if eps != LAYER_NORM_EPS:
            yield f"an epsilon of {eps:g} in the LayerNorm", "LayerNorm", layer_norm_with(eps)
    yield "no RMSNorm", "RMSNorm", lambda x, weight: x
    yield "a weight counted from 1 in the RMSNorm", "RMSNorm", _counted_from_one(language_model)
    yield "no RoPE", "RoPE", lambda x: x
    yield "RoPE of adjacent channels", "RoPE", rotation(language_model, pairs=adjacent)
    for theta in (1e4, 1e5, 5e5, 1e6):
        if theta != language_model.rope_theta:
            yield f"a RoPE base of {theta:g}", "RoPE", rotation(language_model, theta)
    if width != language_model.head_dim * heads:
        scale = (width / heads) ** -0.5
        yield "scores scaled by hidden / heads", "attention", attention(language_model, scale)
    if 1 < language_model.num_key_value_heads < heads:
        yield (
            "query heads use the key heads in turn",
            "attention",
            attention(language_model, turns=True),
        )
    yield "gate and up exchanged", "SwiGLU", lambda gate, up: gate * up * expit(up)
    yield "GELU instead of SiLU", "SwiGLU", lambda gate, up: gelu(gate) * up
    half = 0.5 / decoder.frames_per_token - 0.5
    yield "interpolation of half pixels", "interpolation", interpolation(decoder, half)
    yield "no layer scale", "layer scale", lambda x, gamma: x
    yield "kernels reversed in time", "convolution", _reversed
    yield "edge frames repeated instead of zeros", "convolution", _edges
    yield "a convolution one frame late", "convolution", _shifted(1)
    yield "a convolution one frame early", "convolution", _shifted(-1)
    yield "magnitudes not clipped", "magnitude", magnitude(decoder, clip=np.inf)
    yield "DC and Nyquist kept", "magnitude", magnitude(decoder, edges=True)
    yield "the conjugate spectrum", "sin", lambda phase: -np.sin(phase)
    yield "the conjugate spectrum", "imaginary", lambda size, sine: -size * sine


def adjacent(x: Array) -> tuple[Array, Array]:
    return x[..., 0::2], x[..., 1::2]


def _counted_from_one(config: LanguageModelConfig) -> Compute:
    norm = rms_norm_with(config.rms_norm_eps)
    return lambda x, weight: norm(x, weight + 1)


def _any_convolution(x: Array, weight: Array, bias: Array) -> Array:
    return (depthwise if weight.shape[1] == 1 else convolve)(x, weight, bias)


def _reversed(x: Array, weight: Array, bias: Array) -> Array:
    return _any_convolution(x, weight[..., ::-1], bias)


def _edges(x: Array, weight: Array, bias: Array) -> Array:
    if weight.shape[1] != 1:
        return convolve(x, weight, bias)
    found = taps(x, weight.shape[2], "edge")
    return bias + sum(tap * weight[:, 0, i] for i, tap in enumerate(found))


def _shifted(frames: int) -> Compute:
    def shifted(x: Array, weight: Array, bias: Array) -> Array:
        moved = np.roll(x, frames, axis=0)
        moved[:frames] = 0 if frames > 0 else moved[:frames]
        if frames < 0:
            moved[frames:] = 0
        return _any_convolution(moved, weight, bias)

    return shifted
