"""The language model: ids -> logits and hidden states, with the KV cache as a value.

Qwen3 (https://arxiv.org/abs/2505.09388): RMSNorm before attention and MLP, RMSNorm of queries and
keys per head, half-split RoPE, grouped-query attention, SwiGLU.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from soprano.config import LanguageModelConfig

Cache = list[tuple[Tensor, Tensor]]  # a layer's keys and values, each (B, KV heads, S, head_dim)


class Output(NamedTuple):
    logits: Tensor  # (B, T, V)
    hidden: Tensor  # (B, T, H), after the final norm
    cache: Cache


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        past: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q = apply_rotary(self.q_norm(self._heads(self.q_proj(x))), rotary)
        k = apply_rotary(self.k_norm(self._heads(self.k_proj(x))), rotary)
        v = self._heads(self.v_proj(x))
        keys, values = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        output = functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=True
        )  # (B, heads, T, D)
        return self.o_proj(output.transpose(1, 2).flatten(2)), (keys, values)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, D)


class MLP(nn.Module):
    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        past: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.self_attn(self.input_layernorm(x), rotary, mask, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Trunk(nn.Module):
    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def empty_cache(self, batch: int) -> Cache:
        shape = (batch, self.config.num_key_value_heads, 0, self.config.head_dim)
        empty = self.model.norm.weight.new_zeros(shape)
        return [(empty, empty)] * self.config.num_hidden_layers

    def forward(
        self, ids: Tensor, attention_mask: Tensor, positions: Tensor, cache: Cache
    ) -> Output:
        """Logits and hidden states of new ids, given the cache of earlier ones.

        Args:
            ids: (B, T).
            attention_mask: (B, S + T), nonzero for the real columns of the cache (S) and of `ids`.
            positions: (B, T), the position of each id in its own row.
            cache: from `empty_cache` or an earlier call; it is not changed.
        """
        x = self.model.embed_tokens(ids)
        rotary = rotary_embedding(self.config, positions, x.dtype)
        mask = causal_mask(attention_mask, ids.shape[1])
        present: Cache = []
        for layer, past in zip(self.model.layers, cache, strict=True):
            x, keys_values = layer(x, rotary, mask, past)
            present.append(keys_values)
        hidden = self.model.norm(x)
        return Output(self.lm_head(hidden), hidden, present)


def causal_mask(attention_mask: Tensor, new: int) -> Tensor:
    """Which of S columns the last `new` columns attend to: (B, 1, new, S) of bool."""
    columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    earlier = columns[None, :] <= columns[-new:, None]  # (new, S)
    return attention_mask.bool()[:, None, None, :] & earlier


def rotary_embedding(
    config: LanguageModelConfig, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cos and sin (B, 1, T, head_dim / 2) of any position, from angles in `dtype`."""
    steps = torch.arange(0, config.head_dim, 2, dtype=dtype, device=positions.device)
    angles = positions.to(dtype)[:, None, :, None] / config.rope_theta ** (steps / config.head_dim)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """RoPE on (B, heads, T, D): element i is paired with element i + D/2."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
