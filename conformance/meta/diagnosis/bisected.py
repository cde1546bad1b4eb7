"""Faults inside the networks, and whether `bisect` names the planted node or its consumer."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.diagnosis.bisection import Search
from conformance.diagnosis.graph_runs import load
from conformance.diagnosis.networks import PARTS, bisect_network, graph_taps
from conformance.faults import catalogue
from conformance.golden.packs import find_pack, fixture_models
from conformance.judging.vectors import Vectors
from conformance.subject import Subject
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import ModelError
from soprano.onnx_graphs.source import find_graph
from soprano.onnx_graphs.writer import WIDENED

BACKENDS = ("onnx_cpu", "openvino_cpu")
# Samples are whole sequences without padding.
NOT_SHOWN = ("language-model/padded-rows-become-nan",)


@dataclass(frozen=True)
class Outcome:
    """What `bisect` named for a fault on a backend."""

    fault: str
    backend: str
    named: str
    convention: str
    hit: bool
    planted: tuple[str, ...]  # some of the changed nodes

    def __str__(self) -> str:
        verdict = "hit" if self.hit else "MISSED"
        planted = ", ".join(self.planted[:2])
        return (
            f"{self.fault:52} {self.backend:12} {verdict:6} {self.named or '-':44} "
            f"{self.convention or '-'} (planted: {planted})"
        )


def changed_nodes(clean: Any, planted: Any) -> set[str]:
    """The nodes of a graph that a fault has changed, or whose weights it has changed."""
    before, own = _nodes(clean), _tensors(clean)
    weights = {
        name
        for name, values in _tensors(planted).items()
        if name in own and not np.array_equal(own[name], values)
    }
    return {
        name
        for name, node in _nodes(planted).items()
        if before.get(name) != node or weights & set(node[1])
    }


def _nodes(model: Any) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Kind, inputs and attributes of each node, however wide the stored weights are."""
    return {
        node.name: (
            node.op_type,
            tuple(name.removesuffix(WIDENED) for name in node.input),
            repr(sorted(str(attribute) for attribute in node.attribute)),
        )
        for node in model.graph.node
        if not node.name.endswith(WIDENED)
    }


def _tensors(model: Any) -> dict[str, Any]:
    from onnx import numpy_helper

    return {
        tensor.name: np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
        for tensor in model.graph.initializer
    }


def is_hit(search: Search, planted: Any, changed: set[str]) -> bool:
    """Whether the named node computes a changed node, or reads one directly."""
    if not search.found.first:
        return False
    matched = {search.tensors[step.name] for step in search.order}
    makers = {name: node for node in planted.graph.node for name in node.output}
    tensor = search.tensors.get(search.found.first, search.found.first)
    waiting, inside, ends = [tensor], set(), set()
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or node.name in inside:
            continue
        inside.add(node.name)
        for each in node.input:
            (ends.add if each in matched else waiting.append)(each)
    consumed = {makers[name].name for name in ends if name in makers}
    return bool(changed & (inside | consumed))


def outcome(name: str, backend: str, *, linear: bool = False) -> Outcome | None:
    """Plant a fault in this process, and search for it; None if it changes no graph."""
    fault = catalogue()[name]
    path = next(path for path in fixture_models() if path.name == fault.model)
    folder = ModelFolder.open(path)
    vectors = Vectors(find_pack(path), folder.config)
    vectors.pack.networks()
    sources = {part: find_graph(folder, part) for part in PARTS}
    clean = {part: load(source) for part, source in sources.items() if source}
    # The golden values are those of the weights before the fault.
    weights = folder.language_model_weights(), folder.decoder_weights()
    golden: Any = _Golden(*weights)
    fault.plant(Subject())
    for part in PARTS:
        try:
            source = find_graph(ModelFolder.open(path), part)
        except ModelError:
            source = None
        if source is None:
            continue
        planted = load(source)
        if changed := changed_nodes(clean[part], planted):
            taps = graph_taps(ModelFolder.open(path), part, backend)
            search = bisect_network(part, taps, folder, golden, vectors, linear=linear)
            found = search.found
            hit = is_hit(search, planted, changed)
            return Outcome(
                name, backend, found.first, found.convention, hit, tuple(sorted(changed))
            )
    return None


@dataclass(frozen=True)
class _Golden:
    lm: dict[str, Any]
    decoder: dict[str, Any]

    def language_model_weights(self) -> dict[str, Any]:
        return self.lm

    def decoder_weights(self) -> dict[str, Any]:
        return self.decoder


def network_faults() -> list[str]:
    """The faults that are planted with the hooks of networks."""
    stages = ("language model", "decoder", "hidden states")
    faults = [f for f in catalogue().values() if f.stage.name in stages and not f.harmless]
    return [fault.id for fault in faults if fault.id not in NOT_SHOWN]


def _in_child(arguments: tuple[str, str]) -> Outcome | None:
    try:
        return outcome(*arguments)
    except Exception as error:  # a fault may raise anything
        return Outcome(*arguments, "", f"{type(error).__name__}: {error}"[:90], False, ())


def outcomes(names: list[str], backends: tuple[str, ...] = BACKENDS) -> Iterator[Outcome]:
    """Each fault in a process of its own."""
    known = catalogue()
    wanted = [
        (name, backend)
        for backend in backends
        for name in names
        if backend in (known[name].backends or backends)
    ]
    context = multiprocessing.get_context("fork")
    for arguments in wanted:
        with context.Pool(1) as pool:
            found = pool.apply(_in_child, (arguments,))
        if found is not None:
            yield found


def main() -> int:
    """Print the table; the number of misses."""
    names = [n for n in network_faults() if not sys.argv[1:] or n in sys.argv[1:]]
    found = []
    for each in outcomes(names):
        found.append(each)
        print(each, flush=True)
    for backend in BACKENDS:
        own = [each for each in found if each.backend == backend]
        print(f"{backend}: {sum(each.hit for each in own)} of {len(own)} planted nodes are named")
    return sum(not each.hit for each in found)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
