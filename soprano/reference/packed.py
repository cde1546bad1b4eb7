"""The language model in the form that eager PyTorch runs fastest: packed matrices, static KV cache.

It computes what `soprano.reference.language_model` computes.
A matmul with one row of activations is bound by reading the weights. Measured in float32: matrices
with many outputs are read twice as fast when stored (in, out), those with few outputs a third
faster when stored (out, in).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from soprano.reference.language_model import LanguageModel, Layer, apply_rotary, rotary_embedding

StaticBuffers = list[tuple[Tensor, Tensor]]  # keys, values a layer, each (B, KV, capacity, D)


class Columns(NamedTuple):
    """The cache columns of new ids; the same for all layers."""

    positions: Tensor  # (B, T)
    total: int  # columns in use, the new ones included
    rotary: tuple[Tensor, Tensor]  # cos and sin, each (B, 1, T, D/2)
    masked: Tensor | None  # (B, 1, G * T, S): True where attention is forbidden; None: nowhere


class PackedLayer:
    """One layer; matrices that read the same input are one."""

    def __init__(self, layer: Layer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm = layer.input_layernorm
        self.qkv = _pack([attention.q_proj, attention.k_proj, attention.v_proj])
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.out = attention.o_proj.weight
        self.mlp_norm = layer.post_attention_layernorm
        self.gate_up = _pack([mlp.gate_proj, mlp.up_proj])
        self.down = mlp.down_proj.weight

    def __call__(self, x: Tensor, columns: Columns, past: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, H) -> (B, T, H); the new keys and values are written into `past`."""
        x = x + self._attend(self.input_norm(x) @ self.qkv, columns, *past)
        gate, up = (self.mlp_norm(x) @ self.gate_up).chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)

    def _attend(self, qkv: Tensor, columns: Columns, keys: Tensor, values: Tensor) -> Tensor:
        batch, new, _ = qkv.shape
        key_heads, _, width = keys.shape[1:]
        heads = qkv.shape[2] // width - 2 * key_heads
        split = qkv.view(batch, new, -1, width).transpose(1, 2)  # (B, all heads, T, D)
        q, k, v = torch.split(split, [heads, key_heads, key_heads], dim=1)
        q = apply_rotary(self.q_norm(q), columns.rotary) * width**-0.5
        _write(keys, apply_rotary(self.k_norm(k), columns.rotary), columns)
        _write(values, v, columns)
        # The query heads of one key head become further queries of it: no key is repeated.
        grouped = q.reshape(batch, key_heads, -1, width)  # (B, KV, G * T, D)
        scores = grouped @ keys[:, :, : columns.total].transpose(2, 3)  # (B, KV, G * T, S)
        if columns.masked is not None:
            scores = scores.masked_fill(columns.masked, float("-inf"))
        output = scores.softmax(-1) @ values[:, :, : columns.total]
        flat = output.reshape(batch, heads, new, width).transpose(1, 2).flatten(2)
        return functional.linear(flat, self.out)


class PackedLanguageModel:
    """The reference's weights in the layout of `PackedLayer`."""

    def __init__(self, model: LanguageModel) -> None:
        self.config = model.config
        self._embedding = model.model.embed_tokens.weight
        self._layers = [PackedLayer(cast(Layer, layer)) for layer in model.model.layers]
        self._norm = model.model.norm
        self._head = _pack([model.lm_head])

    def empty_cache(self, batch: int, capacity: int) -> StaticBuffers:
        shape = (batch, self.config.num_key_value_heads, capacity, self.config.head_dim)
        zeros = self._embedding.new_zeros
        return [(zeros(shape), zeros(shape)) for _ in self._layers]

    def __call__(
        self, ids: Tensor, last: Tensor, lengths: Tensor, cache: StaticBuffers
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, V) and hidden states (B, H) after id `last` (B,) of each row of ids (B, T).

        `lengths` (B,) count all ids of each row, these included; the cache is written in place.
        """
        x = self._run(ids, last, lengths, cache)
        hidden = self._norm(x[_arange(len(ids), ids), last])
        return hidden @ self._head, hidden

    def each(
        self, ids: Tensor, last: Tensor, lengths: Tensor, cache: StaticBuffers
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and hidden states (B, T, H) after each of the ids."""
        hidden = self._norm(self._run(ids, last, lengths, cache))
        return hidden @ self._head, hidden

    def _run(self, ids: Tensor, last: Tensor, lengths: Tensor, cache: StaticBuffers) -> Tensor:
        """(B, T, H), before the final norm."""
        x = functional.embedding(ids, self._embedding)
        columns = self._columns(ids, last, lengths)
        for layer, past in zip(self._layers, cache, strict=True):
            x = layer(x, columns, past)
        return x

    def _columns(self, ids: Tensor, last: Tensor, lengths: Tensor) -> Columns:
        new, total = ids.shape[1], int(lengths.max())
        positions = (lengths - 1 - last)[:, None] + _arange(new, ids)
        masked = None
        if new > 1 or len(ids) > 1:
            groups = self.config.num_attention_heads // self.config.num_key_value_heads
            later = _arange(total, ids) > positions[:, :, None]  # (B, T, S)
            masked = later.repeat(1, groups, 1)[:, None]
        rotary = rotary_embedding(self.config, positions, self._embedding.dtype)
        return Columns(positions, total, rotary, masked)


def _arange(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, device=like.device)


def _write(buffer: Tensor, new: Tensor, columns: Columns) -> None:
    """New keys or values (B, KV, T, D) into their columns."""
    if new.shape[2] == columns.total:  # a prompt begins at the first column
        buffer[:, :, : columns.total] = new
    else:
        rows = _arange(len(new), new)[:, None]
        buffer[rows, :, columns.positions] = new.transpose(1, 2)


def _pack(modules: list[torch.nn.Linear]) -> Tensor:
    """Their matrices as one, stored (in, out)."""
    return torch.cat([module.weight for module in modules]).t().contiguous()
