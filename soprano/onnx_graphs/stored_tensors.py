"""The tensors that an ONNX graph stores or refers to, checked before a runtime sees the graph.

Runtimes pass on what a graph states: OpenVINO takes some locations for addresses in memory.
So every location must be the name of a regular file beside the graph, and every tensor must lie
inside that file and be finite.

The graph is read by its encoding (https://protobuf.dev/programming-guides/encoding) and the field
numbers of onnx.proto, without the package `onnx`, which opening a bundle does not need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.checkpoint.contents import parsing
from soprano.checkpoint.tensors import is_plain_name, require_finite
from soprano.errors import ModelError, shown
from soprano.regular_files import open_regular, read_regular, size_of

MAX_GRAPH = 2 << 30  # bytes of a message in this encoding
_DEEPEST = 32  # subgraphs within subgraphs
_BLOCK = 4 << 20  # bytes of a weights file that are looked at together

# Fields of messages that contain tensors, and the message that each holds.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TRAINING, _FUNCTION, _TENSOR = range(8)
_INSIDE: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
}
# Bits of an element by TensorProto.DataType; a string has no size.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64,
    15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
_BFLOAT16 = 16


@dataclass
class StoredTensor:
    """One tensor of a graph."""

    name: str = ""
    kind: int = 0  # TensorProto.DataType
    dims: list[int] = field(default_factory=list)
    external: list[tuple[str, str]] = field(default_factory=list)
    is_external: bool = False
    stored: list[npt.NDArray[Any]] = field(default_factory=list)  # floats inside the graph

    @property
    def count(self) -> int:
        return math.prod(self.dims)

    @property
    def length(self) -> int:
        """Bytes of all elements."""
        return -(-self.count * _BITS[self.kind] // 8)


def require_sound(path: Path, content: bytes | None = None, folder: Path | None = None) -> None:
    """An error unless every tensor of a graph is finite and lies in the graph or beside it.

    Args:
        path: the graph's file, or what messages name in its place.
        content: the graph, if it is not that file's content.
        folder: of the files that the graph refers to; the graph's own by default.
    """
    with parsing("an ONNX graph", path):
        graph = memoryview(read_regular(path, MAX_GRAPH) if content is None else content)
        for tensor in _tensors(graph, _MODEL, 0):
            if min(tensor.dims, default=0) < 0 or (tensor.is_external and tensor.kind not in _BITS):
                raise ModelError(f"{path}: {tensor.name} has shape {tensor.dims}")
            if tensor.is_external:
                _require_external(path, tensor, folder or path.parent)
            for values in tensor.stored if tensor.count > 1 else ():
                require_finite(path, tensor.name, values)


def _require_external(path: Path, tensor: StoredTensor, folder: Path) -> None:
    where = f"{path}: the location of {tensor.name}"
    locations = [value for key, value in tensor.external if key == "location"]
    for location in locations or [""]:
        if not is_plain_name(location):
            raise ModelError(f"{where} must be a file beside the graph, it is {shown(location)}")
    offset, length = (
        _number(tensor, key, default, where)
        for key, default in (("offset", 0), ("length", tensor.length))
    )
    if length != tensor.length:
        raise ModelError(f"{where} has {length} bytes, its shape requires {tensor.length}")
    for location in locations:
        file = folder / location
        with parsing("a file of weights", file), open_regular(file) as opened:
            if offset + length > (size := size_of(opened)):
                raise ModelError(f"{where} ends at byte {offset + length} of {size} in {location}")
            opened.seek(offset)
            if tensor.count > 1 and (tensor.kind in _FLOATS or tensor.kind == _BFLOAT16):
                for start in range(0, length, _BLOCK):
                    block = opened.read(min(_BLOCK, length - start))
                    if not _surely_finite(tensor.kind, block):
                        require_finite(file, tensor.name, _floats(tensor.kind, block))


def _number(tensor: StoredTensor, key: str, default: int, where: str) -> int:
    """A number of an external tensor; an error if it is stated twice or is none."""
    stated = [value for name, value in tensor.external if name == key]
    if not stated:
        return default
    if len(stated) > 1 or not stated[0].isdecimal() or not stated[0].isascii():
        raise ModelError(f"{where} has {key} {shown(stated[0])}, which must be one number")
    return int(stated[0])


def _surely_finite(kind: int, raw: bytes) -> bool:
    """Whether no bfloat16 value has the largest exponent, found without widening them."""
    return kind == _BFLOAT16 and int((np.frombuffer(raw, "<u2") & 0x7F80).max()) < 0x7F80


def _floats(kind: int, raw: bytes | memoryview) -> npt.NDArray[Any]:
    if kind == _BFLOAT16:  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, _FLOATS[kind])


def _tensors(message: memoryview, kind: int, depth: int) -> Iterator[StoredTensor]:
    """All tensors below a message, in subgraphs, attributes and functions too."""
    if depth > 8 * _DEEPEST:
        raise ValueError("its messages are nested too deeply")
    if kind == _TENSOR:
        yield _tensor(message)
        return
    inside = _INSIDE[kind]
    for number, value in _fields(message):
        if number in inside and isinstance(value, memoryview):
            yield from _tensors(value, inside[number], depth + 1)


def _tensor(message: memoryview) -> StoredTensor:
    tensor, raw, words = StoredTensor(), [], []
    for number, value in _fields(message):
        match number, value:
            case 1, int():
                tensor.dims.append(_signed(value))
            case 1, memoryview():
                tensor.dims += map(_signed, _varints(value))
            case 2, int():
                tensor.kind = value
            case 4 | 10, memoryview():
                tensor.stored.append(np.frombuffer(value, "<f4" if number == 4 else "<f8"))
            case 5, memoryview():  # 16 bits in each number
                words += list(_varints(value))
            case 5, int():
                words.append(value)
            case 8, memoryview():
                tensor.name = bytes(value).decode("utf-8", errors="replace")
            case 9, memoryview():
                raw.append(value)
            case 13, memoryview():
                tensor.external.append(_entry(value))
            case 14, int():
                tensor.is_external = value != 0
    tensor.is_external |= bool(tensor.external)
    if tensor.kind in _FLOATS or tensor.kind == _BFLOAT16:
        if tensor.kind in (10, _BFLOAT16) and words:
            raw.append(memoryview(np.array(words, np.uint64).astype("<u2").tobytes()))
        tensor.stored += [_floats(tensor.kind, part) for part in raw]
    return tensor


def _entry(message: memoryview) -> tuple[str, str]:
    """The key and the value of a StringStringEntryProto."""
    entry = {1: "", 2: ""}
    for number, value in _fields(message):
        if number in entry and isinstance(value, memoryview):
            entry[number] = bytes(value).decode("utf-8")
    return entry[1], entry[2]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: numbers as integers, everything else as bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown type {kind}")
        if length > end - at:
            raise ValueError(f"a field of {length} bytes where {end - at} are left")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    if at < len(message) and message[at] < 128:  # most numbers have one byte
        return message[at], at + 1
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a number that has no end")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), at
        shift += 7


def _varints(message: memoryview) -> Iterator[int]:
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
