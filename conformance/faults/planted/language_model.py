"""Faults inside the language model, planted in its graph, its module or its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import HIDDEN, LANGUAGE_MODEL, fault
from conformance.faults.network_hooks import (
    GRAPHS,
    TYPED_GRAPHS,
    with_config,
    with_layers,
    with_modules,
    with_nodes,
    with_rms_norm,
    with_rounded_input,
    with_weights,
)
from conformance.faults.plant import Float32, Wrapper, with_backend
from conformance.subject import Subject
from soprano.backends import Output


def is_weight(name: str, *parts: str) -> bool:
    """Whether a tensor is the weight of one of these modules, by the last part of its name."""
    return name.endswith(tuple(f".{part}.weight" for part in parts))


class OutputWrapper(Wrapper):
    """A backend whose outputs of prefill and step are changed."""

    def changed(self, output: Output) -> Output:
        raise NotImplementedError

    def prefill(self, ids: Any, lengths: Any) -> Output:
        return self.changed(self.inner.prefill(ids, lengths))

    def step(self, ids: Any, state: Any) -> Output:
        return self.changed(self.inner.step(ids, state))


@fault(LANGUAGE_MODEL, "LM-01", with_backend, hard=True)
class TrailingIdsAreTakenForPadding(Wrapper):
    """The last ids of a prompt that are [UNK] are cut off, whatever its length is."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        kept = np.array(lengths)
        for row in range(len(kept)):
            while 1 < kept[row] <= np.shape(ids)[1] and ids[row, kept[row] - 1] == 0:
                kept[row] -= 1
        output: Output = self.inner.prefill(ids, kept)
        return output


@fault(HIDDEN, "LM-01", blame=("LM",), public=True)
def state_before_the_final_norm(subject: Subject) -> Subject:
    """The residual before the final norm is returned as the hidden state."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        residuals = [node.name for node in g.nodes if node.name.endswith(".after_mlp")]
        return kind, (residuals[-1], *inputs[1:]), attributes

    def module(network: Any) -> None:
        norm = getattr(getattr(network, "model", None), "norm", None)
        if norm is None:
            return
        seen: list[Any] = []
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network.register_forward_hook(lambda _, inputs, output: output._replace(hidden=seen.pop()))

    subject = with_modules(subject, module)
    return with_nodes(subject, lambda kind, name: name == "last_hidden_state.rows", change)


@fault(LANGUAGE_MODEL, "LM-01", public=True)
def queries_and_keys_not_normed(subject: Subject) -> Subject:
    """Queries and keys have no RMSNorm, as in the model family before this one."""

    def change(norm: Any, g: Any, x: str, module: str, config: Any) -> str:
        return x if module.endswith(("q_norm", "k_norm")) else norm(g, x, module, config)

    def layer(index: int, layer: Any) -> None:
        from torch import nn

        layer.self_attn.q_norm = layer.self_attn.k_norm = nn.Identity()

    return with_rms_norm(with_layers(subject, layer), change)


@fault(LANGUAGE_MODEL, "LM-01", with_weights, model="heads")
def query_heads_take_turns(name: str, values: Float32) -> Float32:
    # Query heads in another order, and the output projection's columns with them.
    """Query head h uses key head h mod 2 instead of h // 3: the groups are interleaved."""
    order = [0, 2, 4, 1, 3, 5]
    if is_weight(name, "q_proj"):
        return values.reshape(6, -1, values.shape[1])[order].reshape(values.shape)
    if is_weight(name, "o_proj"):
        return values.reshape(len(values), 6, -1)[:, order].reshape(values.shape)
    return values


@fault(LANGUAGE_MODEL, "LM-01", with_weights, model="heads")
def scaled_by_hidden_over_heads(name: str, values: Float32) -> Float32:
    """Attention scores are divided by the root of hidden / heads instead of the head's width."""
    return values * np.float32((10 / 4) ** 0.5) if is_weight(name, "q_norm") else values


@fault(LANGUAGE_MODEL, "LM-01", model="heads")
def rotation_base_assumed(subject: Subject) -> Subject:
    """The base of RoPE is 10,000, whatever config.json states."""
    return with_config(subject, rope_theta=10000.0)


@fault(LANGUAGE_MODEL, "LM-01", hard=True, model="heads")
def norm_epsilon_assumed(subject: Subject) -> Subject:
    """The epsilon of every RMSNorm is 1e-6, whatever config.json states."""
    return with_config(subject, rms_norm_eps=1e-6)


@fault(LANGUAGE_MODEL, "LM-01")
def head_tied_although_it_is_not(subject: Subject) -> Subject:
    """Logits are computed with the embeddings, although the checkpoint has an output head."""
    return with_config(subject, tie_word_embeddings=True)


@fault(LANGUAGE_MODEL, "LM-01", hard=True)
def one_layers_epsilon(subject: Subject) -> Subject:
    """A fused norm of one layer has an epsilon of 1e-5."""

    def change(norm: Any, g: Any, x: str, module: str, config: Any) -> str:
        other = module == "model.layers.1.post_attention_layernorm"
        return norm(g, x, module, replace(config, rms_norm_eps=1e-5) if other else config)

    def layer(index: int, layer: Any) -> None:
        if index == 1:
            layer.post_attention_layernorm.eps = 1e-5

    return with_rms_norm(with_layers(subject, layer), change)


@fault(LANGUAGE_MODEL, "LM-01", hard=True, backends=TYPED_GRAPHS)
def scores_in_half_precision(subject: Subject) -> Subject:
    """One layer's attention scores are rounded to half precision before the softmax."""
    return with_rounded_input(
        subject, lambda kind, name: kind == "Softmax" and ".layers.2." in name
    )


@fault(LANGUAGE_MODEL, "LM-01", with_backend, hard=True)
class LastColumnInsteadOfLastId(Wrapper):
    """Prefill of a ragged batch returns the last column, which is padding in short rows."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output = self.inner.prefill(ids, lengths)
        padded = np.array(ids)
        padded[np.arange(ids.shape[1]) >= np.asarray(lengths)[:, None]] = 0
        last = self.inner.prefill(padded, np.full(len(ids), ids.shape[1]))
        return Output(last.logits, last.hidden, output.state)


@fault(LANGUAGE_MODEL, "LM-01", with_weights, hard=True)
def one_token_id_misread(name: str, values: Float32) -> Float32:
    """One row of the embeddings is damaged: an id that few sentences contain."""
    if name != "model.embed_tokens.weight":
        return values
    damaged = values.copy()
    damaged[41] = values[40]
    return damaged


@fault(LANGUAGE_MODEL, "LM-01")
def norms_of_queries_and_keys_swapped(subject: Subject) -> Subject:
    """The norms of queries and of keys have each other's weights."""
    other = {"q_norm": "k_norm", "k_norm": "q_norm"}

    def change(norm: Any, g: Any, x: str, module: str, config: Any) -> str:
        *path, part = module.split(".")
        return norm(g, x, ".".join([*path, other.get(part, part)]), config)

    def layer(index: int, layer: Any) -> None:
        own = layer.self_attn
        own.q_norm, own.k_norm = own.k_norm, own.q_norm

    return with_rms_norm(with_layers(subject, layer), change)


@fault(LANGUAGE_MODEL, "LM-01", with_weights)
def norm_weights_counted_from_one(name: str, values: Float32) -> Float32:
    """RMSNorm multiplies by 1 + weight, as in another family."""
    norm = name.startswith("model.") and name.endswith(("norm.weight", "layernorm.weight"))
    return values + 1 if norm else values


@fault(LANGUAGE_MODEL, "LM-01", backends=GRAPHS)
def gate_and_up_swapped(subject: Subject) -> Subject:
    """SiLU is applied to the up projection instead of the gate."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        one, other = (
            ("gate_proj", "up_proj") if "gate_proj" in inputs[1] else ("up_proj", "gate_proj")
        )
        swapped = inputs[1].replace(one, other).removesuffix(".float32")
        return kind, (inputs[0], g.weight(swapped), *inputs[2:]), attributes

    return with_nodes(
        subject,
        lambda kind, name: kind == "Gemm" and name.endswith(("gate_proj", "up_proj")),
        change,
    )


@fault(LANGUAGE_MODEL, "LM-01", with_backend, hard=True)
class LogitsInHalfPrecision(OutputWrapper):
    """Logits are returned in half precision and widened by the caller."""

    def changed(self, output: Output) -> Output:
        return output._replace(logits=output.logits.astype(np.float16).astype(np.float32))
