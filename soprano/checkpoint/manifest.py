"""The manifest of a bundle: what it was made from, and each of its files with hash and size.

It shows that a bundle is complete and unchanged. It is not signed: whoever can change a bundle can
change its manifest too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soprano.checkpoint.contents import missing, parsing, read_json, stand_in
from soprano.errors import ModelError, shown
from soprano.regular_files import open_regular, size_of

NAME = "manifest.json"
DRAFT = "draft"  # folder of a bundle with another one, which has a manifest of its own
SCHEMA_VERSION = 1

_HASH = re.compile("[0-9a-f]{64}")
_WEIGHTS = (".bin", ".data", ".pth", ".safetensors")
_LARGE = 16 << 20  # bytes; a graph above this holds weights
# Files beside a bundle's own that tools and repositories add, and that nothing reads.
_FOREIGN = re.compile(r"\..*|README\.md|LICENSE(\..*)?")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle; empty for a checkpoint.

    Raises:
        ModelError: it is of another form or schema version.
    """
    path = folder / NAME
    if not path.exists() and not path.is_symlink():
        return {}
    document = read_json(path)
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ModelError(f"{path}: schema_version must be {SCHEMA_VERSION}, it is {shown(version)}")
    match document:
        case {
            "model": {"identity": str()},
            "precision": {"class": str(), "activations": {**activations}},
            "files": {**files},
        } if all(type(value) is str for value in activations.values()):
            pass
        case _:
            raise ModelError(
                f"{path} must state model.identity, precision.class, precision.activations, files"
            )
    for name, entry in files.items():
        match entry:
            case {"sha256": str(digest), "size": int(size)} if _HASH.fullmatch(digest) and (
                size >= 0
            ):
                pass
            case _:
                raise ModelError(
                    f"{path}: {shown(name)} must have sha256 and size, it has {shown(entry)}"
                )
    return document


def write_manifest(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a manifest that lists the files that the folder holds now."""
    files = {
        name: {"sha256": sha256(path), "size": path.stat().st_size}
        for name, path in sorted(_files(folder))
    }
    text = json.dumps({**document, "files": files}, indent=2) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")


def require_unchanged(folder: Path, document: Mapping[str, Any], *, weights: bool) -> None:
    """An error unless a bundle consists of exactly the files that its manifest lists.

    Args:
        folder: the bundle.
        document: its manifest.
        weights: whether to compare the hashes of weights too, which takes a second for 1.5 GB.
    """
    listed: dict[str, Any] = document["files"]
    found = dict(_files(folder))
    for name in sorted(found.keys() - listed.keys()):
        raise ModelError(f"{found[name]} is not a file that {NAME} lists")
    for name in sorted(listed.keys() - found.keys()):
        path = folder / name
        raise missing(path.parent, path.name, f", which {NAME} lists")
    for name, entry in listed.items():
        _compare(found[name], entry, weights)


def _compare(path: Path, entry: Mapping[str, Any], weights: bool) -> None:
    with parsing("a file of a bundle", path), open_regular(path) as file:
        size, expected = size_of(file), entry["size"]
        is_weights = path.suffix in _WEIGHTS or size > _LARGE
        if size == expected and is_weights and not weights:
            return
        if size == expected and hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]:
            return
    if found := stand_in(path):
        raise ModelError(f"{path} is {found}")
    if size != expected:
        raise ModelError(f"{path} has {size} bytes, its bundle had {expected}")
    raise ModelError(f"{path} was changed: its SHA-256 is not the one in {NAME}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a bundle by their names in the manifest; folders that are links are entered."""
    for path in folder.iterdir():
        if path.name in (NAME, DRAFT) or _FOREIGN.fullmatch(path.name):
            continue
        if (path / NAME).is_file():
            continue  # another bundle, with a manifest of its own
        if path.is_dir():
            for inner in path.iterdir():
                if not inner.name.startswith("."):
                    yield f"{path.name}/{inner.name}", inner
        else:
            yield path.name, path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
