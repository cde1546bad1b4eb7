"""Python values between two processes of this package: JSON with the bytes of arrays beside it.

An array keeps its type, memory order, strides and read-only flag, and what surrounds a view.
Nothing is unpickled: what has no form here arrives as a `Foreign`, which knows only its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.ports.wire import WireError
from soprano.backends import Attested, Capabilities
from soprano.config import (
    DecoderConfig,
    IstftConfig,
    LanguageModelConfig,
    ModelConfig,
    SamplingOptions,
)

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
RECORDS = {
    kind.__name__: kind
    for kind in (
        Attested, Capabilities, DecoderConfig, IstftConfig, LanguageModelConfig, ModelConfig,
        SamplingOptions,
    )
}  # fmt: skip
_PLAIN = (type(None), bool, int, float, str)
_NUMBERS = "biufc"
_SPARE = 4096  # bytes around a view that are passed with it


class Foreign:
    """A value of a type that does not cross; a subclass is named like that type."""


def foreign(name: str) -> Foreign:
    stand_in: Foreign = type(name, (Foreign,), {})()
    return stand_in


class Encoder:
    """Values as JSON; `blobs` are the bytes of arrays, `arrays` and `lists` in their order.

    `refer` gives the number of an object that stays in its process, or None.
    """

    def __init__(self, refer: Callable[[Any], Any] = lambda value: None) -> None:
        self.blobs: list[Any] = []
        self.arrays: list[Array] = []
        self.lists: list[list[Any]] = []
        self._refer = refer

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is np.ndarray:
            return self._array(value)
        if kind is list:
            form = [self(item) for item in value]
            self.lists.append(value)
            return form
        if (number := self._refer(value)) is not None:
            return {"object": number}
        return self._other(value)

    def blob(self, data: Any) -> int:
        self.blobs.append(data)
        return len(self.blobs) - 1

    def _other(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, tuple):
            return {"tuple": [self(item) for item in value]}
        if isinstance(value, Mapping):
            return {"dict": [[self(key), self(item)] for key, item in value.items()]}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": self.blob(bytes(value))}
        if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
            return {"scalar": [value.dtype.str, self.blob(value.tobytes())]}
        if isinstance(value, Path):
            return {"path": str(value)}
        if is_dataclass(value) and RECORDS.get(kind.__name__) is kind:
            return {
                "record": [
                    kind.__name__,
                    {f.name: self(getattr(value, f.name)) for f in fields(value)},
                ]
            }
        if isinstance(value, (str, int, float)):  # a subclass is not trusted beyond its value
            plain: Any = next(base for base in (str, int, float) if isinstance(value, base))
            return plain.__new__(plain, value)
        return {"foreign": kind.__name__}

    def _array(self, array: Array) -> Any:
        if array.dtype.kind not in f"{_NUMBERS}US":
            if array.dtype.kind != "O":
                return {"foreign": f"array of {array.dtype}"}
            return {"objects": [list(array.shape), [self(item) for item in array.ravel()]]}
        self.arrays.append(array)
        form = [array.dtype.str, list(array.shape), bool(array.flags.writeable)]
        own = array.base is None and array.flags.forc
        owner, start, end = (None, 0, 0) if own else extent(array)
        if owner is None:
            order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
            return {"array": [*form, self.blob(array.tobytes(order)), order]}
        offset = _address(array) - _address(owner) - start
        data = memory(owner)[start:end].tobytes()
        return {"array": [*form, self.blob(data), list(array.strides), offset]}


def extent(array: Array) -> tuple[Array | None, int, int]:
    """The owner of an array's memory, and which of its bytes cross with the array.

    There is no owner if the memory is not a plain block.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not array.size or not _is_block(owner) or 0 in owner.strides:
        return None, 0, 0
    if owner.nbytes <= 4 * array.nbytes + _SPARE:
        return owner, 0, owner.nbytes
    spans = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    first = _address(array) - _address(owner) + sum(span for span in spans if span < 0)
    last = first + sum(map(abs, spans)) + array.itemsize
    return owner, first - first % 64, last


def _is_block(owner: Array) -> bool:
    axes = np.argsort([-step for step in owner.strides], kind="stable")
    return bool(owner.transpose(axes).flags.c_contiguous)


def memory(owner: Array) -> Bytes:
    """The bytes of an array that is a plain block, in the order of their addresses."""
    axes = np.argsort([-step for step in owner.strides], kind="stable")
    block = owner.transpose(axes).reshape(-1)
    return block.view(np.uint8) if block.dtype != np.uint8 else block


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Decoder:
    """The reverse of an `Encoder`; `arrays` holds each array with the block that it lies in."""

    def __init__(
        self, blobs: Sequence[bytes], resolve: Callable[[int], Any] = lambda number: None
    ) -> None:
        self.blobs = blobs
        self.arrays: list[tuple[Array, Array, bytes]] = []  # array, its owner, bytes as sent
        self.lists: list[tuple[list[Any], Any]] = []  # list, form as sent
        self._resolve = resolve

    def __call__(self, form: Any) -> Any:
        if type(form) is list:
            found = [self(item) for item in form]
            self.lists.append((found, form))
            return found
        if type(form) is not dict:
            return form
        try:
            ((kind, value),) = form.items()
            return getattr(self, f"_{kind}")(value)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise WireError(f"a value has a wrong form: {str(form)[:80]} ({error})") from None

    def _object(self, number: int) -> Any:
        return self._resolve(number)

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self(item) for item in items)

    def _dict(self, items: list[Any]) -> dict[Any, Any]:
        return {self(key): self(item) for key, item in items}

    def _bytes(self, index: int) -> bytes:
        return self.blobs[index]

    def _scalar(self, form: list[Any]) -> Any:
        return np.frombuffer(self.blobs[form[1]], form[0])[0]

    def _path(self, text: str) -> Path:
        return Path(text)

    def _record(self, form: list[Any]) -> Any:
        return RECORDS[form[0]](**{name: self(value) for name, value in form[1].items()})

    def _foreign(self, name: str) -> Foreign:
        return foreign(str(name))

    def _objects(self, form: list[Any]) -> Array:
        found = np.empty(len(form[1]), object)
        found[:] = [self(item) for item in form[1]]
        return found.reshape(form[0])

    def _array(self, form: list[Any]) -> Array:
        dtype, shape, writeable, index, *layout = form
        data = self.blobs[index]
        if len(layout) == 1:
            array: Array = np.empty(shape, dtype, order=layout[0])
            owner = array
        else:
            size = np.dtype(dtype).itemsize
            whole = len(data) % size == 0
            owner = np.empty(len(data) // size, dtype) if whole else np.empty(len(data), np.uint8)
            strides, offset = layout
            array = np.ndarray(shape, dtype, owner, offset, strides)
        if array.dtype.kind not in f"{_NUMBERS}US" or len(data) != owner.nbytes:
            raise ValueError("its bytes do not fill its shape")
        if data:
            memory(owner)[:] = np.frombuffer(data, np.uint8)
        array.flags.writeable = writeable
        self.arrays.append((array, owner, data))
        return array
