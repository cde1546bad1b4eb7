"""The names of graph inputs and outputs, as community exports of causal models have them."""

from __future__ import annotations

from soprano.config import LanguageModelConfig


def cache_names(layers: int) -> list[tuple[str, str]]:
    """Input and output name of every cache tensor, keys before values, layer by layer."""
    return [
        (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
        for layer in range(layers)
        for part in ("key", "value")
    ]


def padded_head(config: LanguageModelConfig) -> int:
    """The width of a head in the fused graph's cache: ONNX Runtime wants multiples of 16."""
    return -(-config.head_dim // 16) * 16
