"""Runs a Python port in a process of its own, for the suite in another.

`python_client` sends calls; each is made as it would be in the process of the suite: with arrays
of the same memory order, in a thread for each thread of the caller, and lazily for iterators.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import numpy as np

from conformance.ports import wire
from conformance.ports.shared import Block, Content, Items, Shared
from conformance.ports.values import Array, Decoder, Encoder, memory
from soprano.backends import open_backend

_END = 3.0  # seconds in which a port may end after its input has ended
_MEMBERS = (
    "name", "config", "capabilities", "attest", "close", "prefill", "step", "decode", "fork",
    "select", "join", "verify", "truncate", "tap",
)  # fmt: skip


def parts(*names: str) -> Callable[[Server, Any], Any]:
    """A result of which only these attributes matter."""
    return lambda server, result: tuple(getattr(result, name) for name in names)


def _output(server: Server, result: Any) -> Any:
    return result.logits, result.hidden, server.keep(result.state)


def _utterances(server: Server, results: Any) -> Any:
    return [parts("ids", "samples", "finish")(server, result) for result in results]


# How the results of these methods cross; those of all others cross as values.
RESULTS: dict[str, Callable[[Server, Any], Any]] = {
    "prefill": _output,
    "step": _output,
    "verify": _output,
    **dict.fromkeys(
        ("fork", "select", "join", "truncate", "tokenize"), lambda server, r: server.keep(r)
    ),
    "stream": lambda server, result: server.keep(iter(result)),
    "synthesize": parts("ids", "samples", "finish"),
    "synthesize_batch": _utterances,
}


class Kept:
    """An object that stays in this process, under its number."""

    def __init__(self, number: int) -> None:
        self.number = number


class Server:
    """Makes the calls that messages ask for."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._numbers, self._shares = count(1), count(1)
        self._shared = Shared()

    def keep(self, value: Any) -> Kept:
        number = next(self._numbers)
        self._objects[number] = value
        return Kept(number)

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """The answer to a request, and the bytes of its arrays."""
        for number in message.get("released", ()):
            self._objects.pop(number, None)
        self._shared.forget(message.get("forgotten", ()))
        blobs = message.get("blobs", ())
        self._shared.apply(message.get("changed", ()), blobs)
        given = Decoder(blobs, self._objects.__getitem__)
        encoder = Encoder(lambda value: value.number if type(value) is Kept else None)
        answer: dict[str, Any] = {"id": message["id"]}
        try:
            handler = getattr(self, f"on_{message['method']}")
            answer["result"] = encoder(handler(**given(message["params"])))
        except BaseException as error:  # whatever a port raises is an answer
            encoder = Encoder()
            answer["error"] = _description(error)
        answer["returned lists"] = self._returned_lists(encoder)
        answer["lists"] = _changed_lists(given, encoder)
        answer["written"], answer["kept"] = self._arguments(given, encoder)
        answer["returned"] = self._results(encoder)
        answer["changed"] = self._shared.changes(encoder)
        return answer, encoder.blobs

    def _arguments(self, given: Decoder, encoder: Encoder) -> tuple[list[Any], list[Any]]:
        """Place and bytes of the arguments that the port has written; numbers of those it keeps."""
        written, kept = [], []
        for place, entry in enumerate(given.arrays):
            data = memory(entry[1]).tobytes() if entry[1].size else b""
            if data != entry[2]:
                written.append([place, encoder.blob(data)])
            if _is_kept(entry):
                number = next(self._shares)
                self._shared.add(number, Block(entry[1], 0, len(data)), data)
                kept.append([place, number])
        return written, kept

    def _returned_lists(self, encoder: Encoder) -> list[Any]:
        """Place and number of the returned lists that the port has kept."""
        shared = []
        for place in range(len(encoder.lists)):
            # The list, and the argument of `getrefcount`.
            if sys.getrefcount(encoder.lists[place]) > 2 and is_plain(encoder.lists[place]):
                items, number = Items(encoder.lists[place]), next(self._shares)
                self._shared.add(number, items, items.read())
                shared.append([place, number])
        return shared

    def _results(self, encoder: Encoder) -> list[Any]:
        """Place and number of the returned arrays that the port may still write."""
        shared = []
        for place in range(len(encoder.arrays)):
            if may_be_written(encoder.arrays, place):
                array, number = encoder.arrays[place], next(self._shares)
                order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
                content = Content(array, order)
                self._shared.add(number, content, content.read())
                shared.append([place, number])
                del array, content
        return shared

    def on_open(
        self, path: list[str], port: str, model: str, precision: str, threads: int | None
    ) -> dict[str, Any]:
        from soprano.backends import OptionalStages

        sys.path[:] = path
        opened = open_backend(port, model, precision, threads)
        optional = [name for name in vars(OptionalStages) if name[0] != "_"]
        present = [name for name in (*_MEMBERS, *optional) if hasattr(opened, name)]
        found = {name: getattr(opened, name) for name in present if name != "files"}
        return {
            "object": self.keep(opened),
            "type": type(opened).__name__,
            "methods": [name for name, member in found.items() if callable(member)],
            "values": {name: own for name, own in found.items() if not callable(own)},
            "files": "files" in present,
        }

    def on_call(self, object: Any, name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
        result = getattr(object, name)(*args, **options)
        return RESULTS.get(name, lambda server, value: value)(self, result)

    def on_get(self, object: Any, name: str) -> Any:
        value = getattr(object, name)
        return list(value) if name == "files" and not isinstance(value, (str, bytes)) else value

    def on_next(self, object: Any) -> list[Any]:
        """The next item of an iterator in a list, which is empty at its end."""
        for item in object:
            return [item]
        return []


def _is_kept(entry: tuple[Array, Array, bytes]) -> bool:
    """Whether anybody but `entry` refers to an argument."""
    references = sys.getrefcount(entry[0]), sys.getrefcount(entry[1])
    # An array that owns its memory stands in the entry twice; a view refers to its owner.
    return references != ((3, 3) if entry[0] is entry[1] else (2, 3))


def may_be_written(arrays: list[Array], place: int) -> bool:
    """Whether anybody but this list may refer to the memory of one of its arrays."""
    if not arrays[place].size:
        return False
    if sys.getrefcount(arrays[place]) > 2:  # the list, and the argument of `getrefcount`
        return True
    if arrays[place].base is None:
        return False
    # Memory of another library may belong to anything.
    own = isinstance(arrays[place].base, np.ndarray) and arrays[place].base.base is None
    return not own or sys.getrefcount(arrays[place].base) > 2


def is_plain(items: list[Any]) -> bool:
    return bool(items) and all(type(item) in (int, float, str) for item in items)


def _changed_lists(given: Decoder, encoder: Encoder) -> list[Any]:
    """Place and items of the lists of numbers and strings that a call has changed."""
    found = [
        [place, encoder(items)]
        for place, (items, form) in enumerate(given.lists)
        if is_plain(form) and items != form
    ]
    given.lists.clear()  # they refer to arguments
    return found


def _description(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)
    except BaseException:
        text = "its message cannot be formatted"
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    return {"message": text, "kinds": kinds, "is_exception": isinstance(error, Exception)}


class Channel:
    """Messages on two streams; an answer is written whole."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source, self._target = source, target
        self._writing = threading.Lock()

    def read(self) -> dict[str, Any] | None:
        line = self._source.readline()
        if not line:
            return None
        message = wire.parse(line)
        message["blobs"] = [self._source.read(size) for size in message.pop("sizes", ())]
        return message

    def write(self, message: dict[str, Any], blobs: Sequence[Any]) -> None:
        line = json.dumps({**message, "sizes": [len(blob) for blob in blobs]}).encode()
        with self._writing:
            self._target.write(b"".join([line, b"\n", *blobs]))
            self._target.flush()


class Threads:
    """Makes each call in the thread that stands for the caller's; 0 is the main thread."""

    def __init__(self, server: Server, channel: Channel) -> None:
        self._server, self._channel, self._process = server, channel, os.getpid()
        self._queues: dict[int, queue.SimpleQueue[Any]] = {0: queue.SimpleQueue()}

    def read(self) -> None:
        """Distribute the requests until the input ends."""
        while message := self._channel.read():
            thread = message.pop("thread", 0)
            if thread not in self._queues:
                self._queues[thread] = queue.SimpleQueue()
                threading.Thread(target=self.run, args=(thread,), daemon=True).start()
            self._queues[thread].put(message)
        faulthandler.dump_traceback_later(_END, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
        self._queues[0].put(None)

    def run(self, thread: int) -> None:
        waiting = self._queues[thread]
        while message := waiting.get():
            sys.settrace(_interrupted if message.pop("interrupted", False) else None)
            try:
                answer, blobs = self._server.answer(message)
            finally:
                sys.settrace(None)
            if os.getpid() != self._process:
                os._exit(1)  # a process that the port has forked, and that has returned
            self._channel.write(answer, blobs)
            del message, answer, blobs


def _interrupted(frame: FrameType, event: str, value: Any) -> Any:
    """Let another thread run after a line of Python code, as a law of concurrent calls does."""
    if event == "line":
        time.sleep(0)
    return _interrupted


def main(folder: str) -> None:
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a port prints is a diagnostic
    if hasattr(signal, "SIGUSR1"):  # the suite asks where a port hangs
        stack = (Path(folder) / "stack").open("w")
        faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
    threads = Threads(Server(), Channel(source, target))
    threading.Thread(target=threads.read, daemon=True).start()
    threads.run(0)


if __name__ == "__main__":
    main(sys.argv[1])
