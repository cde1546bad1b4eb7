"""The names of a language model's inputs and outputs, those of community exports."""

from __future__ import annotations

from soprano.config import LanguageModelConfig


def cache_names(layers: int) -> list[tuple[str, str]]:
    """Input and output name of every tensor of the KV cache, keys before values, layer by layer."""
    return [
        (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
        for layer in range(layers)
        for part in ("key", "value")
    ]


def padded_head(config: LanguageModelConfig) -> int:
    """The head width of the fused graph's KV cache: ONNX Runtime requires a multiple of 16."""
    return -(-config.head_dim // 16) * 16
