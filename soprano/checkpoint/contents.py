"""What a file or a folder of a model really holds, for errors that name it.

Downloads and clones leave other things under the names of model files: pointers of Git LFS, pages
of a web server, compressed or unfinished files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soprano.errors import MAX_MESSAGE, ModelError, SopranoError, brief
from soprano.regular_files import open_regular, read_regular, reason

_HEAD = 512  # bytes that are looked at
_SHOWN = 40  # characters of a text that a message shows
_ROOM = len(" and 999 more")  # in a message, after the names of a folder's files
MAX_DOCUMENT = 64 << 20  # bytes of a JSON document or a header: those of large models have 20 MB

ZIP, PICKLE = "a ZIP archive, as PyTorch writes it", "a Python pickle"

# First bytes and what they are the beginning of.
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the file: run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer instead of the file: run `git annex get`"),
    (b"GGUF", "a GGUF file"),
    (b"PK\x03\x04", ZIP),
    ((b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"), PICKLE),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
)
_PAGE = re.compile(rb"\s*<(!doctype html|html|head|body|script|meta)", re.IGNORECASE)


def describe(path: Path) -> str | None:
    """What a file's first bytes show it to be, or None."""
    if path.is_dir():
        return "a folder"
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head.strip(b"\0"):
        return "filled with zeros" if head else "empty"
    if head[8:9] == b"{" and 1 < int.from_bytes(head[:8], "little") < 2**32:
        return "a safetensors file"
    if head[257:262] == b"ustar":
        return "a TAR archive"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if _PAGE.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "an HTML page instead of the file"
    text = " ".join(head.decode("utf-8", errors="replace").split())[:_SHOWN]
    return f"text that begins {text!r}" if text.isprintable() and "\ufffd" not in text else None


def not_a(kind: str, path: Path, reason: str | None = None) -> ModelError:
    """The error for a file that is not what its name promises: its reason, else what it holds."""
    if reason is None and (found := describe(path)):
        reason = f"it is {found}"
    return ModelError(f"{path} is not {kind}" + (f": {reason}" if reason else ""))


def stand_in(path: Path) -> str | None:
    """What is found in place of a file of any kind: a pointer, a page, or nothing."""
    found = describe(path) or ""
    return found if found == "empty" or "instead of" in found else None


def missing(folder: Path, wanted: str, purpose: str = "") -> ModelError:
    """The error for a file that a folder does not have; it lists what is there."""
    # What may be weights comes first.
    paths = folder.iterdir() if folder.is_dir() else ()
    names = sorted(map(_name, paths), key=lambda name: (".json" in name, name))
    text = f"{folder} has no {wanted}{purpose}; it contains"
    if not names:
        return ModelError(f"{text} nothing")
    for number, name in enumerate(names):
        if number and len(text) + len(name) > MAX_MESSAGE - _ROOM:
            return ModelError(f"{text} and {len(names) - number} more")
        text += f", {name}" if number else f" {name}"
    return ModelError(text)


def _name(path: Path) -> str:
    if path.is_dir():
        return f"{path.name}/"
    return path.name if path.exists() else f"{path.name} (a broken link)"


@contextmanager
def parsing(kind: str, path: Path) -> Iterator[None]:
    """Turn whatever a file's parser raises into a `ModelError` that names the file.

    Libraries raise more than `Exception`: a panic of a library in Rust is a `BaseException`.
    """
    try:
        yield
    except (SopranoError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except FileNotFoundError:
        raise missing(path.parent, path.name) from None
    except OSError as error:
        raise not_a(kind, path, None if path.is_dir() else reason(error)) from None
    except BaseException as error:
        raise not_a(kind, path, brief(error)) from None


def read_text(path: Path) -> str:
    """The text of a JSON file in UTF-8, 16 or 32, without its byte order mark."""
    raw = read_regular(path, MAX_DOCUMENT)
    return raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: the file is missing, or holds something else.
    """
    with parsing("a JSON file", path):
        try:
            document = json.loads(read_text(path))
        except FileNotFoundError:
            raise missing(path.parent, path.name, ": not a model folder") from None
        except ValueError as error:
            found = describe(path)
            damaged = found is None or re.match("text that begins .{", found)
            raise not_a("a JSON file", path, brief(error) if damaged else None) from None
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object, it holds a {type(document).__name__}")
    return document
