"""The two networks in float64, from their definitions, with NumPy and SciPy only.

They share no code with the reference: one sequence at a time, without KV cache and batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from soprano.config import LAYER_NORM_EPS, MAGNITUDE_LIMIT, DecoderConfig, LanguageModelConfig

Float64 = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.floating]]
Matmul = Callable[[Float64, Float64, str], Float64]  # x (..., K), matrix (N, K), module -> (..., N)


def exact_matmul(x: Float64, matrix: Float64, module: str) -> Float64:
    return x @ matrix.T


class LanguageModelOracle:
    """The language model. Another `matmul` replaces every product of an input and a matrix."""

    def __init__(
        self, config: LanguageModelConfig, weights: Weights, matmul: Matmul = exact_matmul
    ) -> None:
        self._config, self._matmul = config, matmul
        self._weights = {name: values.astype(np.float64) for name, values in weights.items()}

    def __call__(self, ids: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Logits (T, V) and hidden states (T, H) of one sequence of ids (T,)."""
        weights, ids = self._weights, np.asarray(ids)
        x = weights["model.embed_tokens.weight"][ids]
        for layer in range(self._config.num_hidden_layers):
            prefix = f"model.layers.{layer}"
            attended = self._attention(
                self._norm(x, f"{prefix}.input_layernorm"), f"{prefix}.self_attn"
            )
            x = self._add(x, attended)
            y = self._mlp(self._norm(x, f"{prefix}.post_attention_layernorm"), f"{prefix}.mlp")
            x = self._add(x, y)
        hidden = self._norm(x, "model.norm")
        head = "model.embed_tokens" if self._config.tie_word_embeddings else "lm_head"
        return self._linear(hidden, head), hidden

    # The next four are what the oracles of precision classes round.

    def _add(self, x: Float64, y: Float64) -> Float64:
        return x + y

    def _cache(self, keys: Float64, values: Float64) -> tuple[Float64, Float64]:
        return keys, values

    def _linear(self, x: Float64, name: str) -> Float64:
        return self._matmul(x, self._weights[f"{name}.weight"], name)

    def _norm(self, x: Float64, name: str) -> Float64:
        mean_square = np.mean(x**2, axis=-1, keepdims=True)
        return (
            x / np.sqrt(mean_square + self._config.rms_norm_eps) * self._weights[f"{name}.weight"]
        )

    def _attention(self, x: Float64, name: str) -> Float64:
        config, count = self._config, len(x)

        def heads(kind: str) -> Float64:
            return self._linear(x, f"{name}.{kind}_proj").reshape(count, -1, config.head_dim)

        q = self._rotate(self._norm(heads("q"), f"{name}.q_norm"))  # (T, heads, D)
        k = self._rotate(self._norm(heads("k"), f"{name}.k_norm"))  # (T, KV heads, D)
        k, v = self._cache(k, heads("v"))
        group = config.num_attention_heads // config.num_key_value_heads
        output = np.zeros_like(q)
        for head in range(config.num_attention_heads):
            scores = q[:, head] @ k[:, head // group].T / np.sqrt(config.head_dim)  # (T, T)
            scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            output[:, head] = weights @ v[:, head // group]
        return self._linear(output.reshape(count, -1), f"{name}.o_proj")

    def _rotate(self, x: Float64) -> Float64:
        """RoPE on (T, heads, D): channels i and i + D/2 form a complex number, which is rotated."""
        half = self._config.head_dim // 2
        frequency = self._config.rope_theta ** -(np.arange(half) / half)
        rotation = np.exp(1j * np.arange(len(x))[:, None] * frequency)[:, None]  # (T, 1, D/2)
        rotated = (x[..., :half] + 1j * x[..., half:]) * rotation
        return np.concatenate([rotated.real, rotated.imag], axis=-1)

    def _mlp(self, x: Float64, name: str) -> Float64:
        gate, up = self._linear(x, f"{name}.gate_proj"), self._linear(x, f"{name}.up_proj")
        return self._linear(gate * expit(gate) * up, f"{name}.down_proj")


class DecoderOracle:
    """The decoder. Another `matmul` replaces every product of an input and a matrix."""

    def __init__(
        self, config: DecoderConfig, weights: Weights, matmul: Matmul = exact_matmul
    ) -> None:
        self._config, self._matmul = config, matmul
        self._weights = {name: values.astype(np.float64) for name, values in weights.items()}

    def __call__(self, hidden: npt.ArrayLike) -> Float64:
        """The spectrum (F, T', 2) of one utterance's hidden states (T, H)."""
        x = self._interpolate(np.asarray(hidden, np.float64))  # (T', H)
        x = self._norm(self._convolve(x, "decoder.embed"), "decoder.norm")
        for block in range(self._config.num_layers):
            name = f"decoder.convnext.{block}"
            y = self._norm(self._depthwise(x, f"{name}.dwconv"), f"{name}.norm")
            y = self._linear(_gelu(self._linear(y, f"{name}.pwconv1")), f"{name}.pwconv2")
            x = self._add(x, self._weights[f"{name}.gamma"] * y)
        out = self._linear(self._norm(x, "decoder.final_layer_norm"), "head.out")
        log_magnitude, phase = np.split(out, 2, axis=-1)
        with np.errstate(over="ignore"):
            magnitude = np.minimum(np.exp(log_magnitude), MAGNITUDE_LIMIT)
        magnitude[:, [0, -1]] = 0  # DC and Nyquist
        spectrum = magnitude * np.exp(1j * phase)  # (T', F)
        return np.stack([spectrum.real, spectrum.imag], axis=-1).transpose(1, 0, 2)

    def _add(self, x: Float64, y: Float64) -> Float64:
        return x + y

    def _interpolate(self, hidden: Float64) -> Float64:
        tokens = np.arange(len(hidden))
        frames = np.arange(self._config.frames(len(hidden))) / self._config.frames_per_token
        return np.stack([np.interp(frames, tokens, channel) for channel in hidden.T], axis=1)

    def _taps(self, x: Float64, kernel: int) -> list[Float64]:
        """x (T', C) shifted to each tap of a zero-padded kernel."""
        padded = np.pad(x, ((kernel // 2, kernel // 2), (0, 0)))
        return [padded[tap : tap + len(x)] for tap in range(kernel)]

    def _convolve(self, x: Float64, name: str) -> Float64:
        weight = self._weights[f"{name}.weight"]  # (out, in, kernel)
        taps = self._taps(x, weight.shape[2])
        return self._weights[f"{name}.bias"] + sum(
            tap @ weight[:, :, i].T for i, tap in enumerate(taps)
        )

    def _depthwise(self, x: Float64, name: str) -> Float64:
        weight = self._weights[f"{name}.weight"]  # (channels, 1, kernel)
        taps = self._taps(x, weight.shape[2])
        return self._weights[f"{name}.bias"] + sum(
            tap * weight[:, 0, i] for i, tap in enumerate(taps)
        )

    def _norm(self, x: Float64, name: str) -> Float64:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + LAYER_NORM_EPS)
        return centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _linear(self, x: Float64, name: str) -> Float64:
        product = self._matmul(x, self._weights[f"{name}.weight"], name)
        return product + self._weights[f"{name}.bias"]


def _gelu(x: Float64) -> Float64:
    return x * (1 + erf(x / np.sqrt(2))) / 2
