"""Calls with invalid arguments, of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.golden.observations import prefill_one
from conformance.ports.wire import PortFailureError
from soprano.backends import Backend

Call = Callable[[], Any]


def invalid_prefills(backend: Backend) -> Iterator[tuple[str, Call]]:
    """Calls of `prefill`, with their names."""
    size = backend.config.language_model.vocab_size
    ids, one, three = np.array([[5, 6, 7]]), np.array([1]), np.array([3])
    arguments: dict[str, tuple[Any, Any]] = {
        "an id below 0": (np.array([[5, -1, 7]]), three),
        "an id beyond the vocabulary": (np.array([[5, 6, size]]), three),
        "a huge id": (np.array([[2**62, 6, 7]]), three),
        "a length of 0": (ids, np.array([0])),
        "a negative length": (ids, np.array([-2])),
        "a length beyond the array": (ids, np.array([4])),
        "no columns": (ids[:, :0], np.array([0])),
        "no rows": (ids[:0], one[:0]),
        "ids without rows": (ids[0], three),
        "ids with an axis too many": (ids[None], three),
        "lengths for another number of rows": (ids, np.array([3, 3])),
        "lengths with an axis too many": (ids, three[None]),
        "no lengths": (ids, None),
        "ids of float32": (ids.astype(np.float32) + 0.5, three),
        "ids that are strings": (ids.astype(str), three),
        "ids that are objects": (np.array([[5, None, 7]], object), three),
        "lengths of float64": (ids, np.array([2.5])),
    }
    for name, (wrong, lengths) in arguments.items():
        yield f"prefill of {name}", lambda i=wrong, n=lengths: backend.prefill(i, n)


def invalid_steps(backend: Backend, fresh: Callable[[], Any]) -> Iterator[tuple[str, Call]]:
    """Calls of `step` on a state of one row that `fresh` gives, with their names."""
    size = backend.config.language_model.vocab_size
    arguments: dict[str, Any] = {
        "an id below 0": np.array([-1]),
        "an id beyond the vocabulary": np.array([size]),
        "a huge id": np.array([2**62]),
        "no id": np.zeros(0, np.int64),
        "an id too many": np.array([5, 6]),
        "ids with an axis too many": np.array([[5]]),
        "ids of float32": np.array([5.5], np.float32),
        "ids that are strings": np.array(["5"]),
        "None": None,
    }
    for name, wrong in arguments.items():
        yield f"step with {name}", lambda i=wrong: backend.step(i, fresh())


def invalid_states(backend: Backend) -> Iterator[tuple[str, Call]]:
    """Operations on a state that was consumed, on none, and on another object."""
    used = prefill_one(backend, [5, 6, 7])
    backend.step(np.array([5]), used.state)
    able = backend.capabilities
    operations: dict[str, Callable[[Any], Any]] = {
        "step": lambda state: backend.step(np.array([5]), state),
        "fork": lambda state: backend.fork(state),
        "select": lambda state: backend.select(state, [0]),
        "join": lambda state: backend.join(state, prefill_one(backend, [5]).state),
    }
    for name, operation in operations.items():
        if name == "step" or (getattr(able, name) and (name != "join" or able.batch)):
            yield f"{name} of a consumed state", lambda call=operation: call(used.state)
            yield f"{name} of no state", lambda call=operation: call(None)
            yield f"{name} of another object", lambda call=operation: call(object())
    if able.select:
        for rows in ([1], [-2], []):
            yield (
                f"select of rows {rows} of 1",
                lambda r=rows: backend.select(prefill_one(backend, [5]).state, r),
            )


def invalid_decodes(backend: Any) -> Iterator[tuple[str, Call]]:
    """Calls of the decoder, with their names."""
    width = backend.config.language_model.hidden_size
    hidden, three = np.ones((1, 3, width), np.float32), np.array([3])
    arguments: dict[str, tuple[Any, Any]] = {
        "one channel too few": (hidden[..., 1:], three),
        "one channel too many": (np.ones((1, 3, width + 1), np.float32), three),
        "no channels": (hidden[..., :0], three),
        "hidden states without rows": (hidden[0], three),
        "an axis too many": (hidden[None], three),
        "a negative length": (hidden, np.array([-1])),
        "a length beyond the array": (hidden, np.array([4])),
        "lengths for another number of rows": (hidden, np.array([3, 3])),
        "lengths with an axis too many": (hidden, three[None]),
        "no lengths": (hidden, None),
        "None": (None, three),
        "hidden states that are strings": (hidden.astype(str), three),
        "hidden states that are objects": (np.full(hidden.shape, None, object), three),
        "lengths of float64": (hidden, np.array([2.5])),
    }
    call = backend.decode if backend.capabilities.spectrum else backend.decode_audio
    for name, (wrong, lengths) in arguments.items():
        yield f"decode of {name}", lambda h=wrong, n=lengths: call(h, n)


def attempt(call: Call) -> Any:
    """The result of a call; None if it raises any exception. A port that ends has not refused."""
    try:
        return call()
    except PortFailureError:
        raise
    except Exception:  # whatever a port raises
        return None
