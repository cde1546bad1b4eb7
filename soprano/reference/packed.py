"""The language model as eager PyTorch runs it best: stacked matrices, and a cache in place.

It computes what `soprano.reference.language_model` computes.
A product with one row of activations is bound by the reading of weights; measured in float32, that
runs twice as fast over matrices of many outputs when they are stored (in, out), and a third faster
over those of few outputs when they are stored (out, in).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from soprano.reference.language_model import LanguageModel, Layer, rotate, rotations

Buffers = list[tuple[Tensor, Tensor]]  # a layer's keys and values, each (B, KV, capacity, D)


class Places(NamedTuple):
    """Where new ids stand; shared by all layers."""

    positions: Tensor  # (B, T)
    total: int  # columns in use after them
    rotation: tuple[Tensor, Tensor]  # (B, 1, T, D/2)
    hidden_columns: Tensor | None  # (B, 1, G * T, S): what a query may not see; None for nothing


class StackedLayer:
    """One layer with the matrices that read the same input in one."""

    def __init__(self, layer: Layer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm = layer.input_layernorm
        self.qkv = _many([attention.q_proj, attention.k_proj, attention.v_proj])
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.out = attention.o_proj.weight
        self.mlp_norm = layer.post_attention_layernorm
        self.gate_up = _many([mlp.gate_proj, mlp.up_proj])
        self.down = mlp.down_proj.weight

    def __call__(self, x: Tensor, places: Places, past: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, H) -> (B, T, H); the new keys and values are written into `past`."""
        x = x + self._attend(self.input_norm(x) @ self.qkv, places, *past)
        gate, up = (self.mlp_norm(x) @ self.gate_up).chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)

    def _attend(self, joined: Tensor, places: Places, keys: Tensor, values: Tensor) -> Tensor:
        batch, new, _ = joined.shape
        key_heads, _, width = keys.shape[1:]
        heads = joined.shape[2] // width - 2 * key_heads
        split = joined.view(batch, new, -1, width).transpose(1, 2)  # (B, all heads, T, D)
        q, k, v = torch.split(split, [heads, key_heads, key_heads], dim=1)
        q = rotate(self.q_norm(q), places.rotation) * width**-0.5
        _write(keys, rotate(self.k_norm(k), places.rotation), places)
        _write(values, v, places)
        # The query heads of one key head are further queries of it: no key is repeated.
        grouped = q.reshape(batch, key_heads, -1, width)  # (B, KV, G * T, D)
        scores = grouped @ keys[:, :, : places.total].transpose(2, 3)
        if places.hidden_columns is not None:
            scores = scores.masked_fill(places.hidden_columns, float("-inf"))
        mixed = scores.softmax(-1) @ values[:, :, : places.total]
        flat = mixed.reshape(batch, heads, new, width).transpose(1, 2).flatten(2)
        return functional.linear(flat, self.out)


class StackedLanguageModel:
    """The reference's weights in the layout of `StackedLayer`."""

    def __init__(self, model: LanguageModel) -> None:
        self.config = model.config
        self._embedding = model.model.embed_tokens.weight
        self._layers = [StackedLayer(cast(Layer, layer)) for layer in model.model.layers]
        self._norm = model.model.norm
        self._head = _many([model.lm_head])

    def buffers(self, batch: int, capacity: int) -> Buffers:
        """An empty cache."""
        shape = (batch, self.config.num_key_value_heads, capacity, self.config.head_dim)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self._layers]

    def __call__(
        self, ids: Tensor, last: Tensor, lengths: Tensor, cache: Buffers
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, V) and hidden (B, H) after id `last` (B,) of each row of ids (B, T).

        `lengths` (B,) count each row's ids in all; the cache is written.
        """
        x = functional.embedding(ids, self._embedding)
        places = self._places(ids, last, lengths)
        for layer, past in zip(self._layers, cache, strict=True):
            x = layer(x, places, past)
        hidden = self._norm(x[torch.arange(len(ids)), last])
        return hidden @ self._head, hidden

    def _places(self, ids: Tensor, last: Tensor, lengths: Tensor) -> Places:
        new, total = ids.shape[1], int(lengths.max())
        positions = (lengths - 1 - last)[:, None] + torch.arange(new)
        hidden = None
        if new > 1 or len(ids) > 1:
            groups = self.config.num_attention_heads // self.config.num_key_value_heads
            later = torch.arange(total) > positions[:, :, None]  # (B, T, S)
            hidden = later.repeat(1, groups, 1)[:, None]
        rotation = rotations(self.config, positions, self._embedding.dtype)
        return Places(positions, total, rotation, hidden)


def _write(buffer: Tensor, new: Tensor, places: Places) -> None:
    """New keys or values (B, KV, T, D) into their columns."""
    if new.shape[2] > 1:  # prompts begin at the first column
        buffer[:, :, : new.shape[2]] = new
    else:
        buffer[torch.arange(len(new)), :, places.positions[:, 0]] = new[:, :, 0]


def _many(modules: list[torch.nn.Linear]) -> Tensor:
    """Their matrices as one, stored (in, out)."""
    return torch.cat([module.weight for module in modules]).t().contiguous()
