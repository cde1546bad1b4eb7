"""A PyTorch state dict on disk -> arrays.

`torch.save` writes a ZIP archive, uncompressed: a pickle that names the tensors, and one member
for each storage. It is read here without PyTorch: the pickle may name the few functions that
rebuild a tensor, and each size that it states is compared with the file before memory is used.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.checkpoint.contents import MAX_DOCUMENT, PICKLE, ZIP, describe, not_a, parsing
from soprano.errors import ModelError, one_line
from soprano.regular_files import open_regular, size_of

Float32 = npt.NDArray[np.float32]

_KIND = "a plain PyTorch state dict"
_OTHER_OBJECTS = "it holds Python objects other than tensors"
_TYPES = {
    "FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1",
    "ByteStorage": "<u1", "BoolStorage": "?",
}  # fmt: skip


def read_state_dict(path: Path) -> dict[str, Float32]:
    """The tensors of a PyTorch state dict as float32; no code in the file is executed."""
    with parsing(_KIND, path), open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                state = _StateDict(archive, size_of(file)).load()
        except pickle.UnpicklingError as error:
            raise not_a(_KIND, path, str(error)) from None
        except ModelError:
            raise
        except Exception:
            raise not_a(_KIND, path, _reason(path)) from None
    if not isinstance(state, dict):
        raise ModelError(f"{path} is not {_KIND}: it holds a {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(tensor, np.ndarray):
            raise ModelError(f"{path} is not {_KIND}: {name!r} is a {type(tensor).__name__}")
    return {str(name): _float32(tensor) for name, tensor in state.items()}


def _float32(values: npt.NDArray[Any]) -> Float32:
    with np.errstate(over="ignore"):
        return np.array(values, np.float32, order="C")


def _reason(path: Path) -> str | None:
    """Why a file cannot be read, if it is one that PyTorch can write."""
    found = describe(path)
    if found == PICKLE:
        return "versions of PyTorch before 1.6 wrote it: load it there and save it again"
    return "it is incomplete or damaged, or was not written by torch.save" if found == ZIP else None


class _StateDict(pickle._Unpickler):
    """The unpickler in Python: that in C allocates memory for any number in the file."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:
            raise pickle.UnpicklingError(f"its members have more bytes than the file, {size}")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise pickle.UnpicklingError("its members are compressed")
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        self._archive, self._root = archive, pickles[0].removesuffix("data.pkl")
        if (length := archive.getinfo(pickles[0]).file_size) > MAX_DOCUMENT:
            raise pickle.UnpicklingError(f"its pickle has {length} bytes, at most {MAX_DOCUMENT}")
        self._storages: dict[str, npt.NDArray[Any]] = {}
        # Bytes that tensors may have together: bfloat16 doubles, and tensors may share a storage.
        self._left = 8 * size
        super().__init__(io.BytesIO(archive.read(pickles[0])), encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case "torch._utils", "_rebuild_parameter":
                return _parameter
            case "torch", kind if kind in _TYPES:
                return kind
        raise pickle.UnpicklingError(f"{_OTHER_OBJECTS}: {one_line(f'{module}.{name}', 60)}")

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        """A storage: ("storage", type, key, location, number of elements)."""
        _, kind, key, _, count = pid
        if key not in self._storages:
            raw = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), np.uint8)
            values: npt.NDArray[Any] = raw.view(_TYPES[kind])
            if kind == "BFloat16Storage":  # the upper half of a float32
                values = (values.astype(np.uint32) << 16).view(np.float32)
            self._storages[key] = values
        if len(self._storages[key]) != count:
            raise pickle.UnpicklingError(f"storage {key} is not of {count} elements")
        return self._storages[key]

    def _tensor(self, storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> Any:
        steps = zip(shape, strides, strict=True)
        last = offset + sum((size - 1) * step for size, step in steps)
        count = math.prod(shape)
        self._left -= count * storage.itemsize
        inside = min((offset, *shape, *strides), default=0) >= 0 and last < len(storage)
        if self._left < 0 or (count and not inside):
            raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)} leaves its storage")
        strides = [step * storage.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _parameter(data: Any, *_: Any) -> Any:
    return data
