"""The quantised weights of a bundle, read from its graphs without the exporter's code.

ONNX: MatMulNBits (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
OpenVINO: constants of 8 or 4 bits, minus a zero point, times a scale.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import read_manifest, write_manifest

Float32 = npt.NDArray[np.float32]

GRAPHS = ("lm_step", "decoder")


@dataclass(frozen=True)
class QuantisedMatrix:
    """A matrix (N, K) as codes, zero point and scales."""

    codes: npt.NDArray[np.uint8]  # (N, blocks, block)
    scales: Float32  # (N, blocks)
    zero_point: int
    bits: int
    columns: int  # K; the last block may be longer

    @property
    def weights(self) -> Float32:
        centred = self.codes.astype(np.float64) - self.zero_point
        rows = (centred * self.scales[..., None]).reshape(len(self.codes), -1)
        return rows[:, : self.columns].astype(np.float32)

    @property
    def flat_codes(self) -> npt.NDArray[np.uint8]:
        """The code of each weight, (N, K)."""
        return self.codes.reshape(len(self.codes), -1)[:, : self.columns]

    @property
    def steps(self) -> Float32:
        """The difference of the values of adjacent codes, for each weight (N, K)."""
        steps = np.abs(np.repeat(self.scales, self.codes.shape[2], axis=1))
        return steps[:, : self.columns]


def read_quantised(folder: Path, runtime: str) -> dict[str, QuantisedMatrix]:
    """The quantised matrices of a bundle's graphs for "onnx" or "openvino", by module name."""
    read, suffix = (_read_onnx, "onnx") if runtime == "onnx" else (_read_openvino, "xml")
    matrices: dict[str, QuantisedMatrix] = {}
    for graph in GRAPHS:
        path = folder / runtime / f"{graph}.{suffix}"
        if path.is_file():
            matrices |= read(path)
    return matrices


def count_matmuls(folder: Path, runtime: str) -> list[Counter[str]]:
    """The number of quantised matmuls by type, for each form of the language model's graph."""
    if runtime == "openvino":
        matrices = read_quantised(folder, runtime).values()
        return [Counter(f"int{matrix.bits}" for matrix in matrices)]
    decoder = _count_onnx(folder / "onnx" / "decoder.onnx")
    forms = sorted((folder / "onnx").glob("lm_step*.onnx"))
    return [_count_onnx(form) + decoder for form in forms]


def _count_onnx(path: Path) -> Counter[str]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return Counter(f"int{_attributes(n)['bits']}" for n in graph.node if n.op_type == "MatMulNBits")


def _attributes(node: Any) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def disable_input_rounding(folder: Path) -> Path:
    """Change a bundle's ONNX graphs, in place, so that matmuls do not round their inputs."""
    import onnx

    for path in sorted((folder / "onnx").glob("*.onnx")):
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1  # compute in float32
        path.write_bytes(model.SerializeToString(deterministic=True))
    document = read_manifest(folder)
    document["precision"]["activations"]["onnx"] = "float32"
    write_manifest(folder, document)
    return folder


def _read_onnx(path: Path) -> dict[str, QuantisedMatrix]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    matrices = {}
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        attributes = _attributes(node)
        packed, scales = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        if len(node.input) > 3 and node.input[3]:
            raise LookupError(f"{node.name}: explicit zero points are not supported")
        bits, rows = attributes["bits"], attributes["N"]
        matrices[_module(node.input[1])] = QuantisedMatrix(
            _unpack(packed, bits).reshape(rows, -1, attributes["block_size"]),
            scales.reshape(rows, -1),
            2 ** (bits - 1),
            bits,
            attributes["K"],
        )
    return matrices


def _unpack(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Codes of 8 bits, or two codes of 4 bits per byte, the first in the lower half."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _read_openvino(path: Path) -> dict[str, QuantisedMatrix]:
    from soprano.onnx_graphs.openvino_import import ov

    constants = {
        node.get_friendly_name(): node
        for node in ov.Core().read_model(path).get_ops()
        if node.get_type_name() == "Constant"
    }
    matrices = {}
    for name, node in constants.items():
        if not name.endswith(".levels"):
            continue
        stem, shape = name.removesuffix(".levels"), tuple(node.get_output_shape(0))
        bits = 8 if node.get_element_type() == ov.Type.u8 else 4
        codes, zero_points = (
            _unpack(np.array(constants[n].data).ravel().view(np.uint8), bits)
            for n in (name, f"{stem}.middle")
        )
        matrices[_module(stem)] = QuantisedMatrix(
            codes[: int(np.prod(shape))].reshape(shape[0], -1, shape[-1]),
            np.array(constants[f"{stem}.scales"].data).reshape(shape[0], -1),
            int(zero_points[0]),
            bits,
            int(np.prod(shape[1:])),
        )
    return matrices


def _module(tensor: str) -> str:
    return tensor.split(".weight", maxsplit=1)[0]


@contextmanager
def checkpoint(
    source: ModelFolder,
    language_model: dict[str, Float32],
    decoder: dict[str, Float32],
    quantised: dict[str, QuantisedMatrix],
) -> Iterator[ModelFolder]:
    """A checkpoint like the source, with these weights and the quantised matrices in their place.

    A tied embedding is looked up in float, so a quantised output matrix is untied.
    """
    document = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    for module, matrix in quantised.items():
        tied = module == "model.embed_tokens"
        document["tie_word_embeddings"] &= not tied
        target = decoder if module.startswith("decoder.") else language_model
        target["lm_head.weight" if tied else f"{module}.weight"] = matrix.weights
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
        shutil.copyfile(source.path / "tokenizer.json", folder / "tokenizer.json")
        save_file(language_model, folder / "model.safetensors")
        save_file(decoder, folder / "decoder.safetensors")
        yield ModelFolder.open(folder)
