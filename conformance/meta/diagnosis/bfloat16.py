"""A decoder in bfloat16, and where its error starts and grows.

OpenVINO chooses bfloat16 on processors that have it, unless it is told to compute in float32. On
other processors the graph itself rounds what its matmuls and convolutions return.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from conformance.diagnosis.bisect import Bisection
from conformance.diagnosis.bisection import Search
from conformance.diagnosis.graph_runs import GraphRun, load
from conformance.diagnosis.networks import bisect_network
from conformance.golden.packs import find_pack, fixture_models
from conformance.judging.vectors import Vectors
from soprano.checkpoint.folder import ModelFolder
from soprano.onnx_graphs.source import DECODER, find_graph


def rounded(graph: Any) -> Any:
    """A graph with the outputs of its matmuls and convolutions rounded to bfloat16."""
    from onnx import TensorProto, helper

    nodes = []
    for node in graph.graph.node:
        nodes.append(node)
        if node.op_type in ("Gemm", "MatMul", "Conv"):
            name, narrow, inner = node.output[0], f"{node.name}.narrow", f"{node.name}.inner"
            node.output[0] = inner
            nodes.append(helper.make_node("Cast", [inner], [narrow], to=TensorProto.BFLOAT16))
            nodes.append(helper.make_node("Cast", [narrow], [name], to=TensorProto.FLOAT))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


def traced(model: Path) -> Search:
    """The search in the rounded decoder of a model, with its trace."""
    folder = ModelFolder.open(model)
    source = find_graph(folder, DECODER)
    assert source is not None
    taps = GraphRun(rounded(load(source)), "onnxruntime")
    vectors = Vectors(find_pack(model), folder.config)
    search = bisect_network(DECODER, taps, folder, folder, vectors)
    search.trace()
    return search


def main() -> None:
    """Print the trace of a fixture model; the JSON goes to the file that is named second."""
    name = sys.argv[1] if sys.argv[1:] else "v11"
    found = traced(next(path for path in fixture_models() if path.name == name))
    print("\n".join(found.found.lines()))
    if sys.argv[2:]:
        document = json.dumps(Bisection(None, [found]).document())
        Path(sys.argv[2]).write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
