"""JSON documents from elsewhere: read within bounds, and compared with their JSON Schema.

The keywords are those that the schemas of this package use: type, enum, const, required,
properties, additionalProperties, items, minItems, maxItems, minimum, pattern, oneOf and $ref.
A "number" is finite; the additional type "float" may be Infinity or NaN, as Python writes them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soprano.errors import brief, shown
from soprano.regular_files import read_regular, reason

Json = dict[str, Any]
_MOST = 256 << 20  # bytes; the report of a complete run has 3 MB
_TYPES: Mapping[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
    "float": (int, float), "boolean": bool, "null": type(None),
}  # fmt: skip


class DocumentError(ValueError):
    """A file cannot be read, or is of another form; the message names it in one line."""


def read_document(path: Path, schema: Mapping[str, Any] | None = None) -> Json:
    """The JSON object in a regular file.

    Raises:
        DocumentError: it cannot be read, is no JSON object, or does not follow the schema.
    """
    try:
        content = json.loads(read_regular(path, _MOST))
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON: {brief(error)}") from None
    if not isinstance(content, dict):
        raise DocumentError(f"{path} must be a JSON object, it is {shown(content)}")
    if schema is not None:
        require_form(content, schema, str(path))
    return content


def require_form(content: Any, schema: Mapping[str, Any], name: str, strict: bool = True) -> None:
    """Raise `DocumentError` unless a value follows a schema.

    Args:
        content: the value.
        schema: its schema, in which references begin with "#/$defs/".
        name: the name of its file.
        strict: whether keys may be neither missing nor unknown, and values not out of range.
    """
    for place, expected, found in _faults(content, schema, schema.get("$defs", {}), "", strict):
        what = place.lstrip(".") or "the document"
        it_is = "missing" if found is _MISSING else shown(found)
        raise DocumentError(f"{name}: {shown(what)} must be {expected}, it is {it_is}")


_MISSING = object()
_Fault = tuple[str, str, Any]  # where, what is expected, and what was found


def _faults(
    value: Any, schema: Mapping[str, Any], known: Json, place: str, strict: bool
) -> Iterator[_Fault]:
    """The places where a value does not follow a schema."""
    if "$ref" in schema:
        schema = known[schema["$ref"].removeprefix("#/$defs/")]
    if "oneOf" in schema:
        found = [list(_faults(value, one, known, place, strict)) for one in schema["oneOf"]]
        if all(found):
            yield found[-1][0]
        return
    if expected := _wrong(value, schema, strict):
        yield place, expected, value
    elif isinstance(value, dict):
        own, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key in schema.get("required", ()) if strict else ():
            if key not in value:
                yield f"{place}.{key}", "there", _MISSING
        for key, inner in value.items():
            form = own.get(key, others)
            if isinstance(form, Mapping):
                yield from _faults(inner, form, known, f"{place}.{key}", strict)
            elif form is False and strict:
                yield f"{place}.{key}", "absent", inner
    elif isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            yield from _faults(inner, schema["items"], known, f"{place}[{index}]", strict)


def _wrong(value: Any, schema: Mapping[str, Any], strict: bool) -> str:
    """What a value must be instead, without what it contains; empty if it is right."""
    if "const" in schema and value != schema["const"]:
        return shown(schema["const"])
    if "enum" in schema and value not in schema["enum"]:
        return f"one of {', '.join(map(str, schema['enum']))}"
    stated = schema.get("type", [])
    types = [stated] if isinstance(stated, str) else stated
    if types and not any(_is(value, name) for name in types):
        return f"of type {' or '.join(types)}"
    return _out_of_range(value, schema) if strict else ""


def _out_of_range(value: Any, schema: Mapping[str, Any]) -> str:
    """What a value of the right type must be instead; empty if it is right."""
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return f"of the form {schema['pattern']}"
    if isinstance(value, (int, float)) and value < schema.get("minimum", -math.inf):
        return f"at least {schema['minimum']}"
    if isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            return f"{least} to {most} items"
    return ""


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "number" and isinstance(value, (int, float)) and not abs(value) < 1e300:
        return False  # NaN, or beyond the range of computing
    return isinstance(value, _TYPES[name])
