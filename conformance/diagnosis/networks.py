"""The networks of a backend with their intermediate values, and golden samples for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.diagnosis.bisection import Sample, Search, Taps
from conformance.diagnosis.graph_runs import GraphRun, load
from conformance.golden.inputs import decoder_inputs, long_hidden
from conformance.judging.vectors import Vectors
from conformance.oracle.network_steps import (
    Step,
    decoder_steps,
    evaluate,
    language_model_steps,
    wrong_steps,
)
from soprano.checkpoint.folder import ModelFolder
from soprano.config import ModelConfig
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.source import DECODER, LANGUAGE_MODEL, find_graph

Array = npt.NDArray[Any]
PAST, MOST_IDS = 520, 128  # positions before a late decode step; ids of the longest sample


def graph_taps(folder: ModelFolder, part: str, backend: str, *, f32: bool = True) -> Taps:
    """The graph of a part as the backend's runtime runs it.

    Without `f32`, OpenVINO chooses its precision.

    Raises:
        LookupError: the folder has no such graph, or the backend runs no graphs.
    """
    source = find_graph(folder, part)
    if source is None:
        raise LookupError(f"{folder.path} has no graph {part}")
    if backend == "openvino_cpu":
        from soprano.backends.openvino import SETTINGS

        return GraphRun(load(source), "openvino", SETTINGS if f32 else {})
    return GraphRun(load(source), "onnxruntime")


def language_model_samples(
    config: ModelConfig, vectors: Vectors, weights: Any, steps: Sequence[Step], given: Array | None
) -> list[Sample]:
    """Prompts, every id of the vocabulary, and a late decode step."""
    arrays, model = vectors.arrays, config.language_model
    length = int(arrays["prompt lengths"][4])
    every = arrays["vocabulary ids"].ravel()
    runs = {
        "9 ids": (arrays["long ids"][:9], 0),
        f"a prompt of {length} ids": (arrays["prompt ids"][4, :length], 0),
        "every id": (every[:MOST_IDS], 0),
        f"2 ids after {PAST}": (arrays["long ids"][: PAST + 2], PAST),
    }
    if given is not None:
        runs = {"the input": (given, 0), **runs}
    found = []
    for name, (ids, past) in runs.items():
        values = evaluate(steps, weights, {"ids": ids})
        heads, width = model.num_key_value_heads, model.head_dim
        inputs = {
            "input_ids": ids[None, past:],
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(past, len(ids))[None],
            "golden ids": ids,
        }
        for layer, (keys, cached) in enumerate(
            zip(
                *[iter(first for first, _ in cache_names(model.num_hidden_layers))] * 2, strict=True
            )
        ):
            prefix = f"model.layers.{layer}.self_attn"
            for tensor, step in ((keys, f"{prefix}.k.rope"), (cached, f"{prefix}.v_proj")):
                rows = values[step].expected[:past].reshape(past, heads, width)
                inputs[tensor] = np.ascontiguousarray(rows.transpose(1, 0, 2)[None], np.float32)
        found.append(Sample(name, inputs, values, past))
    return found


def decoder_samples(
    vectors: Vectors, weights: Any, steps: Sequence[Step], given: Array | None
) -> list[Sample]:
    """Golden hidden states of several lengths, one of them loud."""
    inputs = decoder_inputs(vectors.arrays)
    chosen = {
        "9 tokens": inputs[4], "16 tokens": inputs[5], "3 loud tokens": inputs[8],
        "33 tokens": long_hidden(vectors.arrays, 33),
    }  # fmt: skip
    if given is not None:
        chosen = {"the input": given, **chosen}
    return [
        Sample(
            name,
            {"hidden_states": hidden[None], "golden hidden_states": hidden},
            evaluate(steps, weights, {"hidden_states": hidden}),
        )
        for name, hidden in chosen.items()
    ]


def bisect_network(
    part: str,
    taps: Taps,
    folder: ModelFolder,
    source: ModelFolder,
    vectors: Vectors,
    *,
    linear: bool = False,
    given: Array | None = None,
) -> Search:
    """The search in one network; `source` has its weights."""
    config = folder.config
    if part == LANGUAGE_MODEL:
        steps = language_model_steps(config.language_model)
        weights: Any = source.language_model_weights()
        samples = language_model_samples(config, vectors, weights, steps, given)
    else:
        steps = decoder_steps(config.decoder)
        weights = source.decoder_weights()
        samples = decoder_samples(vectors, weights, steps, given)
    name = "language model" if part == LANGUAGE_MODEL else "decoder"
    read_only = getattr(taps, "read_only", False)
    if read_only:  # a port is asked for whole sequences
        samples = [sample for sample in samples if not sample.first]
    search = Search(name, taps, steps, samples, weights)
    if read_only:
        search.observed()
    elif linear:
        search.linear()
    else:
        search.binary()
    search.explain(_candidates(config, weights))
    return search


def _candidates(config: ModelConfig, weights: Any) -> Callable[[Step], list[tuple[str, Any]]]:
    """What a step may compute instead: a known wrong convention, or with other weights."""

    def candidates(step: Step) -> list[tuple[str, Any]]:
        wrong = wrong_steps(config.language_model, config.decoder)
        known = [(name, compute) for name, kind, compute in wrong if kind == step.kind]
        for place, own in enumerate(step.weights):
            shape = np.shape(weights[own])
            known.append((f"{own} is zero", _with(step, place, np.zeros(shape))))
            known.append((f"{own} is one", _with(step, place, np.ones(shape))))
            for other in weights:
                if other != own and np.shape(weights[other]) == shape:
                    known.append((f"{other} in place of {own}", _with(step, place, weights[other])))
        return known

    return candidates


def _with(step: Step, place: int, tensor: Any) -> Any:
    """The step's computation with another tensor in place of one of its weights."""

    def compute(*arguments: Any) -> Any:
        changed = list(arguments)
        changed[len(step.inputs) + place] = np.asarray(tensor, np.float64)
        return step.compute(*changed)

    return compute


PARTS = (LANGUAGE_MODEL, DECODER)


class ModuleTaps:
    """A PyTorch network whose modules are read and replaced by hooks."""

    def __init__(self, network: Any, part: str, config: ModelConfig) -> None:
        self.network, self.part, self.config = network, part, config
        self.modules = {name: module for name, module in network.named_modules() if name}
        self.names = frozenset(self.modules)

    def run(
        self, inputs: Mapping[str, Array], given: Mapping[str, Array], wanted: Sequence[str]
    ) -> dict[str, Array]:
        import torch

        found: dict[str, Array] = {}

        def hook(name: str) -> Callable[..., Any]:
            def read(module: Any, arguments: Any, output: Any) -> Any:
                if name in wanted and isinstance(output, torch.Tensor):
                    found[name] = output.detach().numpy().copy()
                return torch.from_numpy(given[name]) if name in given else None

            return read

        handles = [
            self.modules[name].register_forward_hook(hook(name)) for name in {*given, *wanted}
        ]
        try:
            with torch.inference_mode():
                self._call({name: torch.from_numpy(a) for name, a in inputs.items()})
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _call(self, inputs: Mapping[str, Any]) -> None:
        if self.part == DECODER:
            self.network.forward_spectral(inputs["hidden_states"])
            return
        names = cache_names(self.config.language_model.num_hidden_layers)
        past = [inputs[name] for name, _ in names]
        cache = list(zip(past[::2], past[1::2], strict=True))
        mask, places = inputs["attention_mask"], inputs["position_ids"]
        self.network(inputs["input_ids"], mask, places, cache)


class PortTaps:
    """A port that answers `tap`; its values can be read and not given."""

    read_only = True

    def __init__(self, tap: Callable[..., Any], part: str, steps: Sequence[Step]) -> None:
        self.tap, self.part = tap, part
        self.names = frozenset(name for step in steps for name in (step.name, *step.aliases))

    def run(
        self, inputs: Mapping[str, Array], given: Mapping[str, Array], wanted: Sequence[str]
    ) -> dict[str, Array]:
        if self.part == DECODER:
            return dict(self.tap(list(wanted), hidden=inputs["hidden_states"][0]))
        return dict(self.tap(list(wanted), ids=inputs["input_ids"][0].tolist()))
