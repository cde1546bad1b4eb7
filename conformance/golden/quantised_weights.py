"""The weights that a quantised bundle really holds, read from its graphs by their definitions.

ONNX: MatMulNBits (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
OpenVINO: constants of 8 or 4 bits, less a zero point, times a scale.
Nothing of the exporter is used here.
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

Float32 = npt.NDArray[np.float32]

GRAPHS = ("lm_step", "decoder")


@dataclass(frozen=True)
class Stored:
    """A matrix (N, K) as it is held: levels (N, blocks, block), zero point and scales."""

    levels: npt.NDArray[np.uint8]
    scales: Float32  # (N, blocks)
    zero: int
    bits: int
    columns: int

    @property
    def weights(self) -> Float32:
        centred = self.levels.astype(np.float64) - self.zero
        rows = (centred * self.scales[..., None]).reshape(len(self.levels), -1)
        return rows[:, : self.columns].astype(np.float32)

    @property
    def flat_levels(self) -> npt.NDArray[np.uint8]:
        """The level of each weight, (N, K)."""
        return self.levels.reshape(len(self.levels), -1)[:, : self.columns]

    @property
    def steps(self) -> Float32:
        """The distance of neighbouring levels around each weight, (N, K)."""
        steps = np.abs(np.repeat(self.scales, self.levels.shape[2], axis=1))
        return steps[:, : self.columns]


def read_stored(folder: Path, runtime: str) -> dict[str, Stored]:
    """The quantised matrices of a bundle's graphs for "onnx" or "openvino", by module name."""
    read, suffix = (_read_onnx, "onnx") if runtime == "onnx" else (_read_openvino, "xml")
    found: dict[str, Stored] = {}
    for graph in GRAPHS:
        path = folder / runtime / f"{graph}.{suffix}"
        if path.is_file():
            found |= read(path)
    return found


def count_products(folder: Path, runtime: str) -> list[Counter[str]]:
    """How many products of each width the graphs of a runtime hold, for each form of them."""
    if runtime == "openvino":
        stored = read_stored(folder, runtime).values()
        return [Counter(f"int{matrix.bits}" for matrix in stored)]
    decoder = _count_onnx(folder / "onnx" / "decoder.onnx")
    forms = sorted((folder / "onnx").glob("lm_step*.onnx"))
    return [_count_onnx(form) + decoder for form in forms]


def _count_onnx(path: Path) -> Counter[str]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return Counter(f"int{_numbers(n)['bits']}" for n in graph.node if n.op_type == "MatMulNBits")


def _numbers(node: Any) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def exact_arithmetic(folder: Path) -> Path:
    """Forbid a bundle's ONNX graphs, in place, to round what enters their products."""
    import onnx

    for path in sorted((folder / "onnx").glob("*.onnx")):
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1
        path.write_bytes(model.SerializeToString(deterministic=True))
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    document["precision"]["activations"]["onnx"] = "float32"
    manifest.write_text(json.dumps(document), encoding="utf-8")
    return folder


def _read_onnx(path: Path) -> dict[str, Stored]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        numbers = _numbers(node)
        packed, scales = (numpy_helper.to_array(arrays[name]) for name in node.input[1:3])
        if len(node.input) > 3 and node.input[3]:
            raise LookupError(f"{node.name}: zero points of its own are not read here")
        bits, rows = numbers["bits"], numbers["N"]
        levels = packed if bits == 8 else _nibbles(packed)
        found[_module(node.input[1])] = Stored(
            levels.reshape(rows, -1, numbers["block_size"]),
            scales.reshape(rows, -1),
            2 ** (bits - 1),
            bits,
            numbers["K"],
        )
    return found


def _nibbles(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two levels a byte, the first in the lower half."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _read_openvino(path: Path) -> dict[str, Stored]:
    from soprano.backends.openvino_import import ov

    constants = {
        node.get_friendly_name(): node
        for node in ov.Core().read_model(path).get_ops()
        if node.get_type_name() == "Constant"
    }
    found = {}
    for name, node in constants.items():
        if not name.endswith(".levels"):
            continue
        stem, shape = name.removesuffix(".levels"), tuple(node.get_output_shape(0))
        bits = 8 if node.get_element_type() == ov.Type.u8 else 4
        levels, zero = (_levels(constants[n], bits) for n in (name, f"{stem}.middle"))
        found[_module(stem)] = Stored(
            levels[: int(np.prod(shape))].reshape(shape[0], -1, shape[-1]),
            np.array(constants[f"{stem}.scales"].data).reshape(shape[0], -1),
            int(zero[0]),
            bits,
            int(np.prod(shape[1:])),
        )
    return found


def _levels(constant: Any, bits: int) -> npt.NDArray[np.uint8]:
    flat = np.array(constant.data).ravel().view(np.uint8)
    return flat if bits == 8 else _nibbles(flat)


def _module(tensor: str) -> str:
    return tensor.split(".weight", maxsplit=1)[0]


@contextmanager
def checkpoint(
    source: ModelFolder,
    language_model: dict[str, Float32],
    decoder: dict[str, Float32],
    stored: dict[str, Stored],
) -> Iterator[ModelFolder]:
    """A checkpoint like the source, of these weights with the stored matrices among them.

    A tied embedding stays float where it is looked up, so a stored output matrix is untied.
    """
    document = json.loads((source.path / "config.json").read_text(encoding="utf-8"))
    for module, matrix in stored.items():
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
