"""JSON documents from elsewhere: read within bounds, and compared with their JSON Schema.

A "number" is finite; the additional type "float" may be Infinity or NaN, as Python writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import create

from soprano.errors import brief, shown
from soprano.regular_files import read_regular, reason

Json = dict[str, Any]
_MOST = 256 << 20  # bytes; the report of a complete run has 3 MB
# Keywords that the documents of an earlier version need not follow.
_RANGES = ("required", "pattern", "minimum", "minItems", "maxItems")


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
    error = next(_VALIDATORS[strict](schema).iter_errors(content), None)
    if error is None:
        return
    while error.context:  # of the alternatives of oneOf, the last one
        error = error.context[-1]
    where, expected, found = _fault(error)
    what = where.removeprefix("$").lstrip(".") or "the document"
    raise DocumentError(f"{name}: {shown(what)} must be {expected}, it is {found}")


def _fault(error: ValidationError) -> tuple[str, str, str]:
    """Where a document is wrong, what is expected there, and what it contains."""
    where, value, found = error.json_path, error.validator_value, shown(error.instance)
    match error.validator:
        case "required":
            missing = next(key for key in value if key not in error.instance)
            return f"{where}.{missing}", "there", "missing"
        case "additionalProperties":
            known = error.schema.get("properties", {})
            key = next(key for key in error.instance if key not in known)
            return f"{where}.{key}", "absent", shown(error.instance[key])
        case "type":
            return (
                where,
                f"of type {value if isinstance(value, str) else ' or '.join(value)}",
                found,
            )
        case "enum":
            return where, f"one of {', '.join(map(str, value))}", found
        case "const":
            return where, shown(value), found
        case "minimum":
            return where, f"at least {value}", found
        case "pattern":
            return where, f"of the form {value}", found
    return where, f"of {error.validator} {value}", found


def _is_integer(_: object, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(_: object, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_number(_: object, value: Any) -> bool:
    return _is_float(_, value) and abs(value) < 1e300  # neither NaN nor beyond computing


def _other_keys(validator: Any, others: Any, value: Any, schema: Any) -> Iterator[Any]:
    """`additionalProperties` without its form that forbids other keys."""
    if isinstance(others, Mapping):
        yield from _KEYWORDS["additionalProperties"](validator, others, value, schema)


_KEYWORDS = dict(Draft202012Validator.VALIDATORS)
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {"integer": _is_integer, "float": _is_float, "number": _is_number}
)
_LENIENT = {key: check for key, check in _KEYWORDS.items() if key not in _RANGES}
_VALIDATORS = {
    strict: create(Draft202012Validator.META_SCHEMA, keywords, type_checker=_TYPES)
    for strict, keywords in (
        (True, _KEYWORDS),
        (False, {**_LENIENT, "additionalProperties": _other_keys}),
    )
}
