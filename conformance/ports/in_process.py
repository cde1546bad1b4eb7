"""A Python port in the process of the suite: its exceptions are failures, never verdicts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from conformance.ports.process import PortProcessError
from conformance.ports.python_client import decides_a_test


class InProcessPort:
    """A port whose members are called under `guarded`."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        with guarded():
            member = getattr(self._port, name)
        return partial(_call, member) if callable(member) else member


def open_guarded(open_port: Callable[[], Any]) -> Any:
    """What the factory of a port returns, under the name of its type."""
    with guarded():
        port = open_port()
    return type(type(port).__name__, (InProcessPort,), {})(port)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn exceptions that would decide about a test, or end the run, into a failure.

    Raises:
        PortProcessError: such as `pytest.skip.Exception`, `SystemExit` or `KeyboardInterrupt`.
    """
    try:
        yield
    except BaseException as error:
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
        # The handler of a real interrupt ignores further ones.
        interrupted = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if isinstance(error, KeyboardInterrupt) and interrupted:
            raise
        if not decides_a_test(names, isinstance(error, Exception)):
            raise
        raise PortProcessError(f"the port raised {names[0]}: {error}") from None


def _call(member: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with guarded():
        result = member(*arguments, **options)
    return _items(result) if isinstance(result, Iterator) else result


def _items(iterator: Iterator[Any]) -> Iterator[Any]:
    while True:
        with guarded():
            item = next(iterator, InProcessPort)
        if item is InProcessPort:
            return
        yield item
