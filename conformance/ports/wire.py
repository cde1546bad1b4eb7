"""How values cross the process protocol: JSON, with arrays as base64 or as safetensors files."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VERSION = 1  # of the protocol
DTYPES = ("float32", "float64", "int64", "int32", "int16", "uint8")
Array = npt.NDArray[Any]


class PortFailureError(Exception):
    """The port gave no valid answer; this is never the rejection of an input."""


class WireError(PortFailureError):
    """A message does not have the form that the protocol defines."""


def encode(value: Any) -> Any:
    """A JSON value; arrays of floats in base64, integers as nested lists."""
    if isinstance(value, np.ndarray):
        return encode_array(value) if value.dtype.kind == "f" else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def encode_array(array: Array) -> dict[str, Any]:
    """Type, shape and elements in C order, little endian."""
    little = np.asarray(array, array.dtype.newbyteorder("<"))
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": text}


def decode_array(value: Any, what: str, folder: Path | None = None) -> Array:
    """The array of a base64 object, a reference to a safetensors file, or nested lists.

    Args:
        what: names the value in messages.
        folder: where files that are referred to lie.

    Raises:
        WireError: the value has none of the three forms, or its size contradicts its shape.
    """
    if isinstance(value, list):
        return _from_lists(value, what)
    if not isinstance(value, dict):
        raise WireError(f"{what} must be an array, got {_short(value)}")
    if "file" in value:
        return _from_file(value, what, folder)
    shape, dtype = value.get("shape"), value.get("dtype")
    if dtype not in DTYPES:
        raise WireError(f"{what}: dtype must be one of {', '.join(DTYPES)}, got {_short(dtype)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError(f"{what}: shape must be a list of lengths, got {_short(shape)}")
    kind = np.dtype(dtype).newbyteorder("<")
    try:
        raw = base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise WireError(f"{what}: base64 is missing or damaged ({error})") from None
    try:
        return np.frombuffer(raw, kind).reshape(shape).astype(dtype)
    except (ValueError, OverflowError):
        raise WireError(
            f"{what}: {len(raw)} bytes do not fill shape {_short(shape)} of {dtype}"
        ) from None


def _from_lists(value: list[Any], what: str) -> Array:
    try:
        array = np.array(value)
    except ValueError:
        raise WireError(f"{what}: the nested lists are ragged") from None
    if not array.size:
        return array.astype(np.float32)
    if array.dtype.kind not in "if":
        raise WireError(f"{what} must contain numbers only, got {_short(value)}")
    return array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)


def _from_file(value: dict[str, Any], what: str, folder: Path | None) -> Array:
    from safetensors import SafetensorError, safe_open

    name = value["file"]
    if folder is None or not isinstance(name, str) or Path(name).name != name:
        raise WireError(f"{what}: file must be a name in the shared folder, got {_short(name)}")
    try:
        with safe_open(folder / name, framework="numpy") as tensors:
            array: Array = tensors.get_tensor(value.get("tensor", "array"))
    except (OSError, SafetensorError, TypeError) as error:  # or a name or a type is none of NumPy
        raise WireError(f"{what}: {name} cannot be read: {error}") from None
    (folder / name).unlink(missing_ok=True)
    return array


def parse(line: bytes) -> dict[str, Any]:
    """The message of one line."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise WireError(
            f"a line on stdout is not JSON: {_short(line)} (diagnostics belong on stderr)"
        ) from None
    if not isinstance(message, dict):
        raise WireError(f"a message must be an object, got {_short(message)}")
    return message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
