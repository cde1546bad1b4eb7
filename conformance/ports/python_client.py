"""Python ports in a process of their own: one for each port, in which all its models are open.

The process outlives the models: what a port keeps for all of them is judged as in one process.
"""

from __future__ import annotations

import atexit
import builtins
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from conformance.ports.process import (
    LIMITS,
    MOST_FAILURES,
    PortError,
    PortProcess,
    PortProcessError,
)
from conformance.ports.shared import Block, Items, Shared, Weak
from conformance.ports.values import Array, Decoder, Encoder, extent, memory
from conformance.ports.wire import WireError
from soprano import errors
from soprano.backends import Backend, Output, SynthesisResult

# Modules whose exceptions decide about a test; a port that raises them has not answered.
_JUDGING = ("_pytest", "pytest", "conformance", "hypothesis", "unittest", "xdist", "pluggy")


class Object:
    """An object that stays in the process of the port, which forgets it with this one."""

    def __init__(self, host: Host, process: PortProcess, number: int) -> None:
        self.host, self.process, self.number = host, process, number

    def __del__(self) -> None:
        self.process.released.append(self.number)


class Host:
    """The process of one port; it is started again if it fails, a few times."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._lock = threading.Lock()
        self._failures = 0
        self._started: tuple[PortProcess, Shared] | None = None

    @property
    def process(self) -> PortProcess:
        return self._running()[0]

    def _running(self) -> tuple[PortProcess, Shared]:
        with self._lock:
            if self._started and (failure := self._started[0].failure):
                self._started[0].require_running()
                self._failures += MOST_FAILURES if "within" in failure else 1
                if self._failures > 3 * MOST_FAILURES:
                    raise PortProcessError(f"{failure} (not started again: it failed too often)")
                self._started[0].close()
                self._started = None
            if self._started is None:
                command = [sys.executable, "-m", "conformance.ports.python_server"]
                self._started = PortProcess(command, shows_stack=True), Shared()
            return self._started

    def close(self) -> None:
        with self._lock:
            if self._started:
                self._started[0].close()
                self._started = None

    def request(self, method: str, params: dict[str, Any], seconds: float | None = None) -> Any:
        """What the process answers, with the arguments as the port has left them."""
        process, shared = self._running()
        encoder = Encoder(partial(_number, process))
        header = {"params": encoder(params), "changed": shared.changes(encoder)}
        header |= {"released": process.take_released(), "forgotten": _taken(shared.gone)}
        if threading.current_thread() is not threading.main_thread():
            header["thread"] = threading.get_ident()
            header["interrupted"] = sys.gettrace() is not None  # by a law, to meet races
        message = process.exchange(method, header, encoder.blobs, seconds)
        return self._taken(message, encoder, process, shared)

    def _taken(
        self, message: dict[str, Any], encoder: Encoder, process: PortProcess, shared: Shared
    ) -> Any:
        blobs = message.get("blobs", ())
        decoder = Decoder(blobs, partial(Object, self, process))
        try:
            result = decoder(message.get("result"))
            shared.apply(message["changed"], blobs)
            for place, index in message["written"]:
                _write(encoder.arrays[place], blobs[index])
            for place, items in message["lists"]:
                encoder.lists[place][:] = decoder(items)
            for place, number in message["kept"]:
                owner, start, end = extent(encoder.arrays[place])
                if owner is not None:
                    held = Weak(weakref.ref(owner), start, end)
                    shared.add(number, held, memory(owner)[start:end].tobytes())
            if "error" in message:
                raise _exception(message["error"])
            for place, number in message["returned lists"]:
                items = Items(decoder.lists[place][0])
                shared.add(number, items, items.read())
            for place, number in message["returned"]:
                array = decoder.arrays[place][0]
                held = Weak(weakref.ref(array), 0, array.nbytes)
                shared.add(number, held, memory(array).tobytes())
            return result
        except (KeyError, IndexError, TypeError) as error:
            if isinstance(error, PortError):
                raise
            raise WireError(f"an answer has a wrong form: {error!r}") from None


def _number(process: PortProcess, value: Any) -> int | None:
    if not isinstance(value, Object):
        return None
    if value.process is not process:
        raise PortProcessError("the process that kept a state has ended")
    return value.number


def _taken(numbers: list[int]) -> list[int]:
    taken = numbers[:]
    del numbers[: len(taken)]
    return taken


def _write(array: Array, data: bytes) -> None:
    """Give an argument the bytes that the port has left in it."""
    owner, start, end = extent(array)
    if owner is not None and end - start == len(data):
        Block(owner, start, end).write(data)


@cache
def _kind(names: tuple[str, ...]) -> type[Exception]:
    """An exception with the name of the port's, which is caught like it."""
    module, _, own = names[0].rpartition(".")
    members = {"__module__": module, "__str__": lambda error: str(error.args[0])}
    for name in names:
        home, _, known = name.rpartition(".")
        base = getattr({"builtins": builtins, errors.__name__: errors}.get(home), known, None)
        if isinstance(base, type) and issubclass(base, Exception) and base is not Exception:
            with suppress(TypeError):  # its instances have other arguments, or another layout
                kind: type[Exception] = type(own, (PortError, base), members)
                kind("")
                return kind
    return type(own, (PortError,), members)


def decides_a_test(names: Sequence[str], is_exception: bool) -> bool:
    """Whether an exception with these types would skip or end a test, or the run."""
    return not is_exception or any(name.split(".")[0] in _JUDGING for name in names)


def _exception(stated: dict[str, Any]) -> Exception:
    """The exception that a port has raised; one that would decide about a test is a failure."""
    names = tuple(map(str, stated["kinds"]))
    if decides_a_test(names, stated["is_exception"]):
        return PortProcessError(f"the port raised {names[0]}: {stated['message']}")
    return _kind(names)(str(stated["message"]))


class PythonPort:
    """A backend in another process; a subclass is named like the port's own class."""

    def __init__(self, host: Host, settings: dict[str, Any], opened: dict[str, Any]) -> None:
        self._host, self._settings, self._own = host, settings, opened["object"]
        vars(self).update(opened["values"])
        for name in opened["methods"]:
            setattr(self, name, partial(_METHODS.get(name, _call), self, name))
        self._lists_files = bool(opened["files"])

    def __getattr__(self, name: str) -> Any:
        if name == "files" and self._lists_files:
            return self._host.request("get", {"object": self._object(), "name": name})
        raise AttributeError(f"the port has no {name}")

    def _object(self) -> Object:
        """The port in its process, which is opened again after the process has ended."""
        if self._own.process is not self._host.process:
            self._own = _open(self._host, self._settings)["object"]
        return self._own


def _open(host: Host, settings: dict[str, Any]) -> Any:
    return host.request("open", {"path": sys.path, "port": host.port, **settings}, LIMITS.opening)


def _call(port: PythonPort, method: str, *args: Any, **options: Any) -> Any:
    seconds = LIMITS.closing if method == "close" else None
    params = {"object": port._object(), "name": method, "args": [*args], "options": options}
    return port._host.request("call", params, seconds)


def _output(port: PythonPort, method: str, *args: Any, **options: Any) -> Output:
    return Output(*_call(port, method, *args, **options))


def _tokenizer(port: PythonPort, method: str, *args: Any, **options: Any) -> Any:
    own = _call(port, method, *args, **options)
    return _Tokenizer(own)


class _Tokenizer:
    def __init__(self, own: Object) -> None:
        self._own = own

    def prompt(self, *args: Any) -> Any:
        params = {"object": self._own, "name": "prompt", "args": [*args], "options": {}}
        return self._own.host.request("call", params)


def _utterance(port: PythonPort, method: str, *args: Any, **options: Any) -> SynthesisResult:
    return SynthesisResult(*_call(port, method, *args, **options))


def _utterances(port: PythonPort, method: str, *args: Any, **options: Any) -> Any:
    return [SynthesisResult(*result) for result in _call(port, method, *args, **options)]


def _stream(port: PythonPort, method: str, *args: Any, **options: Any) -> Iterator[Any]:
    return _items(_call(port, method, *args, **options))


def _items(own: Object) -> Iterator[Any]:
    while item := own.host.request("next", {"object": own}):
        yield item[0]


_METHODS: dict[str, Callable[..., Any]] = {
    "prefill": _output,
    "step": _output,
    "verify": _output,
    "tokenize": _tokenizer,
    "synthesize": _utterance,
    "synthesize_batch": _utterances,
    "stream": _stream,
}

_HOSTS: dict[str, Host] = {}


def open_python_port(
    port: str, model: str | Path, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """Open a model on a Python port in a process of its own.

    Raises:
        PortError: the port refused the model.
        PortProcessError, WireError: there is no valid answer.
    """
    host = _HOSTS.setdefault(port, Host(port))
    settings = {"model": str(model), "precision": precision, "threads": threads}
    opened = _open(host, settings)
    kind: Any = type(str(opened["type"]), (PythonPort,), {})
    backend: Backend = kind(host, settings, opened)
    return backend


@atexit.register
def close_all() -> None:
    """End the processes of all ports."""
    while _HOSTS:
        _HOSTS.popitem()[1].close()
