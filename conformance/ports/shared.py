"""Arrays and lists that exist in both processes: what one process writes into them, the other sees.

In one process a port may keep an array that it was given, or write one that it has returned.
Between processes such arrays are compared with their bytes at the last message, and what has
changed is sent with the next one.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from conformance.ports.values import Array, Encoder, memory

MOST = 256  # arrays that are compared with each message


class Block(NamedTuple):
    """Bytes of an array's memory."""

    owner: Array
    start: int
    end: int

    def read(self) -> bytes:
        return memory(self.owner)[self.start : self.end].tobytes()

    def write(self, data: bytes) -> None:
        owner, writeable = self.owner, self.owner.flags.writeable
        with suppress(ValueError):  # read-only memory that is not NumPy's
            owner.flags.writeable = True
            memory(owner)[self.start : self.end] = np.frombuffer(data, np.uint8)
            owner.flags.writeable = writeable


class Content(NamedTuple):
    """The elements of an array, whatever its memory."""

    array: Array
    order: Any  # "C" or "F"

    def read(self) -> bytes:
        return self.array.tobytes(self.order)

    def write(self, data: bytes) -> None:
        flat = np.frombuffer(data, self.array.dtype)
        with suppress(ValueError):
            self.array[...] = flat.reshape(self.array.shape, order=self.order)


class Items(NamedTuple):
    """A list of numbers or strings."""

    items: list[Any]

    def read(self) -> bytes:
        return json.dumps(self.items).encode()

    def write(self, data: bytes) -> None:
        self.items[:] = json.loads(data)


class Weak(NamedTuple):
    """A block of an array that others hold."""

    owner: weakref.ref[Array]
    start: int
    end: int

    def block(self) -> Block | None:
        owner = self.owner()
        return None if owner is None else Block(owner, self.start, self.end)


class Shared:
    """The arrays by number, with their bytes as both processes know them."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Block | Content | Items | Weak, bytes]] = {}
        self._lock = threading.Lock()
        self.gone: list[int] = []  # numbers of arrays that nobody holds any more

    def add(self, number: int, held: Block | Content | Items | Weak, known: bytes) -> None:
        with self._lock:
            self._held[number] = (held, known)
            if len(self._held) > MOST:
                del self._held[next(iter(self._held))]

    def changes(self, encoder: Encoder) -> list[list[int]]:
        """Numbers and new bytes of the arrays that have changed since the last message."""
        found = []
        with self._lock:
            for number, (held, known) in list(self._held.items()):
                block = held.block() if isinstance(held, Weak) else held
                if block is None:
                    del self._held[number]
                    self.gone.append(number)
                elif (data := block.read()) != known:
                    self._held[number] = (held, data)
                    found.append([number, encoder.blob(data)])
        return found

    def apply(self, changes: Sequence[Sequence[int]], blobs: Sequence[bytes]) -> None:
        """Write what the other process has changed."""
        with self._lock:
            for number, index in changes:
                held, known = self._held.get(number, (None, b""))
                block = held.block() if isinstance(held, Weak) else held
                if held and block and (isinstance(block, Items) or len(blobs[index]) == len(known)):
                    block.write(blobs[index])
                    self._held[number] = (held, blobs[index])

    def forget(self, numbers: Sequence[int]) -> None:
        with self._lock:
            for number in numbers:
                self._held.pop(number, None)
