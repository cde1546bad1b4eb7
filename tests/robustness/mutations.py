"""Seeded changes of files: of their bytes, documents and kind."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

# Values that readers of numbers, names and lists must expect.
EXTREMES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 10**12, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "..", "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, [], [[]], {},
    {"a": 1}, [1, 2, 3], ["full_attention", 3],
)  # fmt: skip


def mutate_bytes(raw: bytes, rng: random.Random) -> bytes:
    """One to four changes: of bits, bytes, or ranges that are cut, doubled, filled or moved."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(data)
        # Headers and documents are short: half of the changes are made near the beginning.
        at = rng.randrange(min(size, 400) if rng.random() < 0.5 else size) if size else 0
        length = min(rng.choice((1, 2, 4, 8, 64, 1000)), size - at)
        match rng.randrange(8):
            case 0 | 1 if size:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + length] = rng.randbytes(length)
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + length] = bytes([rng.choice((0, 255, 127, 128))]) * length
            case 6:
                del data[at:]
            case _:
                data += rng.randbytes(length or 1)
    return bytes(data)


def mutate_document(raw: bytes, rng: random.Random) -> bytes:
    """A JSON document with one value replaced, removed or added, at any depth."""
    document = json.loads(raw)
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)) and node[key]:
                visit(node[key])

    visit(document)
    node, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del node[key]
        case 1:
            depth = rng.choice((1, 50, 100_000))
            return b"[" * depth + raw + b"]" * depth
        case 2 if isinstance(node, dict):
            node[rng.choice(("", "x", "rope_scaling", "__class__"))] = rng.choice(EXTREMES)
        case _:
            node[key] = rng.choice(EXTREMES)
    return json.dumps(document).encode()


def mutate_safetensors(raw: bytes, rng: random.Random) -> bytes:
    """A changed header, with its length, or values that are not finite."""
    length = int.from_bytes(raw[:8], "little")
    header, data = raw[8 : 8 + length], raw[8 + length :]
    if rng.random() < 0.3:
        at = rng.randrange(len(data) // 4) * 4
        value = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\xff\xff"))
        return raw[:8] + header + data[:at] + value + data[at + 4 :]
    changed = mutate_document(header, rng)
    stated = len(changed) if rng.random() < 0.8 else rng.choice((0, 1, 2**40, 2**63, 5 * 10**9))
    return stated.to_bytes(8, "little") + changed + data


def replace_file(path: Path, rng: random.Random) -> None:
    """Another kind of file under the same name, or none."""
    size = path.stat().st_size
    path.unlink()
    match rng.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path.name)  # a loop
        case 3:
            path.symlink_to("/dev/zero")
        case 4:
            path.write_bytes(b"")
        case 5:
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
        case 6:  # sparse
            with path.open("wb") as file:
                file.write((5 * 10**9).to_bytes(8, "little") + b"{")
                file.truncate(max(size, 5 * 10**9 + 100))
        case _:
            pass


def mutate_folder(source: Path, folder: Path, rng: random.Random) -> str:
    """A copy of a model folder with one change. Returns what was changed."""
    shutil.copytree(source, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    name = path.relative_to(folder).as_posix()
    if rng.random() < 0.1:
        replace_file(path, rng)
        return f"{name}: another kind of file"
    raw = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        changed, kind = mutate_document(raw, rng), "document"
    elif path.suffix == ".safetensors" and rng.random() < 0.6:
        changed, kind = mutate_safetensors(raw, rng), "header or values"
    else:
        changed, kind = mutate_bytes(raw, rng), "bytes"
    path.write_bytes(changed)
    return f"{name}: {kind}"
