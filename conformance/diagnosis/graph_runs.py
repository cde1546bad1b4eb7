"""ONNX graphs that are cut at tensors: what consumers read there is given, what is made is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.onnx_graphs.source import GraphSource

Array = npt.NDArray[Any]
_GIVEN = ".given"  # suffix of an input in place of a tensor


def load(source: GraphSource) -> Any:
    """A graph with its weights inside."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    if source.path is not None:
        return onnx.load(source.path)
    model = onnx.load_from_string(source.content or b"")
    load_external_data_for_model(model, str(source.folder))
    return model


def load_file(path: Path) -> Any:
    """An ONNX file with its weights inside."""
    import onnx

    return onnx.load(path)


def produced(model: Any) -> list[str]:
    """The tensors that the nodes of a graph make, in order."""
    return [name for node in model.graph.node for name in node.output if name]


def cut(model: Any, given: Mapping[str, int], wanted: Sequence[str]) -> Any:
    """The part of a graph that makes the wanted tensors, with inputs in place of the given ones.

    `given` are their numbers of axes. A tensor may be given and wanted: its consumers read the
    input, and what is made is read.
    """
    from onnx import ModelProto, TensorProto, helper

    replaced = {name: f"{name}{_GIVEN}" for name in given}
    needed, kept = set(wanted), []
    for node in reversed(model.graph.node):
        if not needed & set(node.output):
            continue
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = [replaced.get(name, name) for name in node.input]
        kept.append(copy)
        needed |= set(copy.input)
    kinds = _kinds(model)
    inputs = [value for value in model.graph.input if value.name in needed]
    inputs += [
        helper.make_tensor_value_info(
            new, kinds.get(old, TensorProto.FLOAT), [f"{new}.{axis}" for axis in range(given[old])]
        )
        for old, new in replaced.items()
        if new in needed
    ]
    outputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None)
        for name in wanted
    ]
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    result = ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(helper.make_graph(kept[::-1], "part", inputs, outputs, weights))
    return result


def _kinds(model: Any) -> dict[str, int]:
    """The element type of each tensor that is not float."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


class GraphRun:
    """A graph on a runtime, "onnxruntime" or "openvino", whose tensors can be given and read."""

    def __init__(self, model: Any, runtime: str, settings: Mapping[str, str] | None = None) -> None:
        self.model, self.runtime = model, runtime
        self.settings = dict(settings or {})
        self.names = frozenset(produced(model))
        self.granted = ""  # the precision that OpenVINO states of the last compiled graph
        self._compiled: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def run(
        self,
        inputs: Mapping[str, Array],
        given: Mapping[str, Array],
        wanted: Sequence[str],
    ) -> dict[str, Array]:
        """The wanted tensors of one call."""
        key = tuple(sorted(given)), tuple(wanted)
        if key not in self._compiled:
            self._compiled = {
                key: self._compile(
                    cut(self.model, {name: array.ndim for name, array in given.items()}, wanted)
                )
            }
        values = {**inputs, **{f"{name}{_GIVEN}": array for name, array in given.items()}}
        compiled = self._compiled[key]
        if self.runtime == "onnxruntime":
            names = [node.name for node in compiled.get_inputs()]
            found = compiled.run(None, {name: np.asarray(values[name]) for name in names})
            return dict(zip(wanted, found, strict=True))
        names = [next(iter(node.get_names())) for node in compiled.inputs]
        found = compiled({name: np.asarray(values[name]) for name in names})
        return {name: np.array(found[index]) for index, name in enumerate(wanted)}

    def _compile(self, part: Any) -> Any:
        if self.runtime == "onnxruntime":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            return onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        from io import BytesIO

        from soprano.onnx_graphs.openvino_import import ov

        model = ov.Core().read_model(BytesIO(part.SerializeToString()))
        compiled = ov.Core().compile_model(model, "CPU", self.settings)
        self.granted = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return compiled


def write_part(
    folder: Path, part: Any, inputs: Mapping[str, Array], expected: Mapping[str, Array]
) -> None:
    """A part of a graph with its inputs and expected outputs, and a program that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.onnx").write_bytes(part.SerializeToString())
    np.savez(folder / "inputs.npz", **dict(inputs))
    np.savez(folder / "expected.npz", **dict(expected))
    (folder / "run.py").write_text(_PROGRAM, encoding="utf-8")


_PROGRAM = '''"""Runs part.onnx on inputs.npz and compares the result with expected.npz."""

from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
session = onnxruntime.InferenceSession(str(folder / "part.onnx"))
inputs, expected = (np.load(folder / f"{name}.npz") for name in ("inputs", "expected"))
outputs = session.run(None, {node.name: inputs[node.name] for node in session.get_inputs()})
for node, output in zip(session.get_outputs(), outputs):
    error = output.reshape(expected[node.name].shape) - expected[node.name]
    rms = np.sqrt(np.mean(error**2))
    print(f"{node.name}: rms error {rms:.3g}, worst {np.abs(error).max():.3g}")
'''
