"""Faults inside the language model, planted in its graph, its module or its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import HIDDEN, LANGUAGE_MODEL, fault
from conformance.faults.plant import Float32, Plant, Wrapper

GRAPHS = ("onnx_cpu", "openvino_cpu")  # backends that run the exporter's graph
# Those that compute in the types that a graph names; OpenVINO takes every float for a float32.
TYPED_GRAPHS = ("onnx_cpu",)


def is_projection(name: str, *parts: str) -> bool:
    return name.endswith(tuple(f".{part}.weight" for part in parts))


@fault("HS-05", HIDDEN, blame=("LM",))
def state_before_the_final_norm(plant: Plant) -> None:
    """The residual before the final norm is returned as the hidden state."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        residuals = [node.name for node in g._nodes if node.name.endswith(".after_mlp")]
        return kind, (residuals[-1], *inputs[1:]), attributes

    plant.node(lambda kind, name: name == "last_hidden_state.rows", change)

    def module(network: Any) -> None:
        norm = getattr(getattr(network, "model", None), "norm", None)
        if norm is None:
            return
        seen: list[Any] = []
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network.register_forward_hook(lambda _, inputs, output: output._replace(hidden=seen.pop()))

    plant.module(module)


@fault("KV-16", LANGUAGE_MODEL)
def queries_and_keys_not_normed(plant: Plant) -> None:
    """Attention of the family before: queries and keys go without their RMSNorm."""
    from soprano.onnx_graphs import language_model as exporter

    norm = exporter._rms_norm

    def faulty(g: Any, x: str, module: str, config: Any) -> str:
        return x if module.endswith(("q_norm", "k_norm")) else norm(g, x, module, config)

    plant.standard()
    plant.set(exporter, "_rms_norm", faulty)

    def module(network: Any) -> None:
        from torch import nn

        for layer in getattr(getattr(network, "model", None), "layers", ()):
            layer.self_attn.q_norm = layer.self_attn.k_norm = nn.Identity()

    plant.module(module)


@fault("LM-50", LANGUAGE_MODEL, model="heads")
def query_heads_take_turns(plant: Plant) -> None:
    """Query head h reads key head h mod 2 instead of h // 3: the groups are interleaved."""

    def change(name: str, values: Float32) -> Float32:
        # Query heads in another order, and the output projection's columns with them.
        order = [0, 2, 4, 1, 3, 5]
        if is_projection(name, "q_proj"):
            return values.reshape(6, -1, values.shape[1])[order].reshape(values.shape)
        if is_projection(name, "o_proj"):
            return values.reshape(len(values), 6, -1)[:, order].reshape(values.shape)
        return values

    plant.weights(change)


@fault("LM-51", LANGUAGE_MODEL, model="heads")
def scaled_by_hidden_over_heads(plant: Plant) -> None:
    """Scores are divided by the root of hidden / heads, which is not the width of a head."""

    def change(name: str, values: Float32) -> Float32:
        return values * np.float32((10 / 4) ** 0.5) if is_projection(name, "q_norm") else values

    plant.weights(change)


@fault("LM-52", LANGUAGE_MODEL, model="heads")
def rotation_base_assumed(plant: Plant) -> None:
    """The base of the rotation is 10,000 whatever config.json says."""
    config_says(plant, rope_theta=10000.0)


@fault("LM-53", LANGUAGE_MODEL, hard=True, model="heads")
def norm_epsilon_assumed(plant: Plant) -> None:
    """The epsilon of every RMSNorm is 1e-6 whatever config.json says."""
    config_says(plant, rms_norm_eps=1e-6)


@fault("LM-54", LANGUAGE_MODEL)
def head_tied_although_it_is_not(plant: Plant) -> None:
    """Logits are products with the embeddings, though the checkpoint has a head of its own."""
    config_says(plant, tie_word_embeddings=True)


@fault("LM-55", LANGUAGE_MODEL, hard=True)
def one_layers_epsilon(plant: Plant) -> None:
    """A fused norm of one layer carries an epsilon of 1e-5."""
    from soprano.onnx_graphs import language_model as exporter

    norm = exporter._rms_norm

    def faulty(g: Any, x: str, module: str, config: Any) -> str:
        other = module == "model.layers.1.post_attention_layernorm"
        return norm(g, x, module, replace(config, rms_norm_eps=1e-5) if other else config)

    plant.standard()
    plant.set(exporter, "_rms_norm", faulty)

    def module(network: Any) -> None:
        layers = getattr(getattr(network, "model", None), "layers", None)
        if layers is not None:
            layers[1].post_attention_layernorm.eps = 1e-5

    plant.module(module)


@fault("LM-56", LANGUAGE_MODEL, hard=True, backends=TYPED_GRAPHS)
def scores_in_half_precision(plant: Plant) -> None:
    """One layer's attention scores pass through half precision on their way to the softmax."""
    round_input(plant, lambda kind, name: name.endswith("layers.2.self_attn.shares"))


@fault("LM-58", LANGUAGE_MODEL, hard=True)
def last_column_instead_of_last_id(plant: Plant) -> None:
    """Prefill of a ragged batch answers from the last column, which is padding in short rows."""
    from soprano.backends.base import RowBackend

    prefill = RowBackend.prefill

    def faulty(backend: Any, ids: Any, lengths: Any) -> Any:
        output = prefill(backend, ids, lengths)
        padded = np.array(ids)
        padded[np.arange(ids.shape[1]) >= np.asarray(lengths)[:, None]] = 0
        last = prefill(backend, padded, np.full(len(ids), ids.shape[1]))
        return output._replace(logits=last.logits, hidden=last.hidden)

    plant.set(RowBackend, "prefill", faulty)


@fault("LM-59", LANGUAGE_MODEL, hard=True)
def one_token_id_misread(plant: Plant) -> None:
    """One row of the embeddings was damaged on the way: an id that few sentences hold."""

    def change(name: str, values: Float32) -> Float32:
        if name != "model.embed_tokens.weight":
            return values
        damaged = values.copy()
        damaged[41] = values[40]
        return damaged

    plant.weights(change)


def config_says(plant: Plant, **numbers: Any) -> None:
    """The language model's networks are built with other numbers than the folder's."""
    from soprano.onnx_graphs import language_model as exporter

    plant.standard()
    graph = exporter.language_model_graph
    plant.set(
        exporter,
        "language_model_graph",
        lambda config, weights: graph(replace(config, **numbers), weights),
    )
    try:
        from soprano.reference import load as checkpoint
    except ImportError:
        return
    build = checkpoint.LanguageModel
    plant.set(checkpoint, "LanguageModel", lambda config: build(replace(config, **numbers)))


def round_input(plant: Plant, matches: Any) -> None:
    """The first input of the matching nodes goes through half precision."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        serial = len(g._nodes)
        narrow = g.op("Cast", inputs[0], name=f"narrow{serial}", to=TensorProto.FLOAT16)
        wide = g.op("Cast", narrow, name=f"wide{serial}", to=TensorProto.FLOAT)
        return kind, (wide, *inputs[1:]), attributes

    plant.node(matches, change)


@fault("LM-60", LANGUAGE_MODEL)
def norms_of_queries_and_keys_swapped(plant: Plant) -> None:
    """The weights of the norms of queries and of keys change places."""
    from soprano.onnx_graphs import language_model as exporter

    norm, other = exporter._rms_norm, {"q_norm": "k_norm", "k_norm": "q_norm"}

    def faulty(g: Any, x: str, module: str, config: Any) -> str:
        *path, part = module.split(".")
        return norm(g, x, ".".join([*path, other.get(part, part)]), config)

    plant.standard()
    plant.set(exporter, "_rms_norm", faulty)

    def module(network: Any) -> None:
        for layer in getattr(getattr(network, "model", None), "layers", ()):
            own = layer.self_attn
            own.q_norm, own.k_norm = own.k_norm, own.q_norm

    plant.module(module)


@fault("LM-61", LANGUAGE_MODEL)
def norm_weights_counted_from_one(plant: Plant) -> None:
    """RMSNorm multiplies by one plus its weight, as in another family."""
    plant.weights(lambda name, values: values + 1 if _is_rms_norm(name) else values)


@fault("LM-62", LANGUAGE_MODEL, backends=GRAPHS)
def gate_and_up_swapped(plant: Plant) -> None:
    """SiLU is applied to the other one of the two products that enter the MLP."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        weight = inputs[1]
        if "gate_proj" in weight:
            other = weight.replace("gate_proj", "up_proj")
        else:
            other = weight.replace("up_proj", "gate_proj")
        return kind, (inputs[0], g.weight(other.removesuffix(".float32")), *inputs[2:]), attributes

    plant.node(
        lambda kind, name: kind == "Gemm" and name.endswith(("gate_proj", "up_proj")), change
    )


@fault("LM-65", LANGUAGE_MODEL, hard=True)
def logits_in_half_precision(plant: Plant) -> None:
    """Logits are returned in half precision and widened by the caller."""

    class Half(Wrapper):
        def _narrow(self, output: Any) -> Any:
            narrow = output.logits.astype(np.float16).astype(np.float32)
            return output._replace(logits=narrow)

        def prefill(self, ids: Any, lengths: Any) -> Any:
            return self._narrow(self.inner.prefill(ids, lengths))

        def step(self, ids: Any, state: Any) -> Any:
            return self._narrow(self.inner.step(ids, state))

    plant.backend(Half)


def _is_rms_norm(name: str) -> bool:
    return name.endswith(("norm.weight", "layernorm.weight")) and name.startswith("model.")
