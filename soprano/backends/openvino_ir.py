"""The constants of an OpenVINO IR, checked before the runtime sees it."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

import numpy as np

from soprano.checkpoint.contents import MAX_DOCUMENT, parsing
from soprano.checkpoint.tensors import require_finite
from soprano.errors import ModelError
from soprano.regular_files import open_regular, read_regular, size_of

_FLOATS = {"f16": "<f2", "f32": "<f4", "f64": "<f8"}


def require_sound_ir(path: Path) -> None:
    """An error unless every constant lies inside the file of weights and is finite.

    Args:
        path: the .xml file; its weights are the .bin file of the same name.
    """
    weights = path.with_suffix(".bin")
    with parsing("an OpenVINO IR", path):
        root = _parse(read_regular(path, MAX_DOCUMENT))
        with parsing("a file of weights", weights), open_regular(weights) as file:
            size = size_of(file)
            for name, data in _constants(root):
                offset, length = (_number(data, key) for key in ("offset", "size"))
                if offset + length > size:
                    raise ModelError(
                        f"{path}: {name} ends at byte {offset + length} of {size} in {weights.name}"
                    )
                kind = _FLOATS.get(data.get("element_type", ""))
                if kind and length > np.dtype(kind).itemsize:
                    file.seek(offset)
                    require_finite(weights, name, np.frombuffer(file.read(length), kind))


def _parse(text: bytes) -> Element:
    parser = XMLParser(target=_Builder())  # noqa: S314 - no entities are declared
    parser.feed(text)
    root: Element = parser.close()
    return root


class _Builder(TreeBuilder):
    """Rejects a document type, in which entities would be declared, in any encoding."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")


def _constants(root: Element) -> list[tuple[str, Element]]:
    """The data of constants in the graph and in bodies of its operators, with their names."""
    return [
        (layer.get("name", ""), data)
        for layer in root.iter("layer")
        if layer.get("type") == "Const"
        for data in layer.findall("data")
    ]


def _number(data: Element, key: str) -> int:
    text = data.get(key, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError(f"a constant has {key} {text!r}, which must be a number")
    return int(text)
