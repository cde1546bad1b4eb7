"""Calls that are made in turns, at the same time, or after invalid ones, and what they return."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from time import monotonic, sleep
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import prefill_one
from conformance.judging.judge import Judge
from conformance.judging.vectors import Vectors
from conformance.laws.support.agreement import judge_same
from conformance.opening import graphs
from soprano.backends import Backend, Float32
from soprano.config import ModelConfig

Ids = npt.NDArray[np.int64]
Job = Callable[[], Any]
Trace = Callable[[FrameType, str, Any], Any]

PROMPT, STEPS, TOKENS = 4, 5, 6  # ids of one use of a backend, and hidden states
# Rounds of concurrent calls: as many as fit into the time, within limits.
FEWEST, MOST, SECONDS = 8, 60, 0.15
SLOW, FEWEST_SLOW = 10.0, 2  # seconds after which fewer rounds are enough
SWITCH = 1e-5  # seconds after which another thread may run Python code
PATIENCE = 120.0  # seconds without a result after which calls in threads are taken to hang


def uses(backend: Backend, ids: Ids, hidden: Float32) -> Iterator[tuple[str, Float32]]:
    """Call a backend and yield each output with its name: prefill, steps, decoder."""
    output = prefill_one(backend, ids[:PROMPT])
    yield "prefill: logits", output.logits
    yield "prefill: hidden", output.hidden
    for i in ids[PROMPT : PROMPT + STEPS]:
        output = backend.step(np.array([i]), output.state)
        yield "step: logits", output.logits
        yield "step: hidden", output.hidden
    yield decoded(backend, hidden)


def decoded(backend: Any, hidden: Float32) -> tuple[str, Float32]:
    """The decoder's output for hidden states (T, H), and its name."""
    lengths = np.array([len(hidden)])
    if backend.capabilities.spectrum:
        return "decode: spectrum", backend.decode(hidden[None], lengths)
    return "decode_audio: samples", backend.decode_audio(hidden[None], lengths)


class ThreadFailedError(AssertionError):
    """A call in a thread raised an exception or did not return."""


def concurrently(jobs: Sequence[Job]) -> list[list[Any]]:
    """The results of each job, which is repeated in a thread of its own, all at the same time.

    The calls of a round begin together. In every second round, the interpreter may change threads
    after each line of Python code: otherwise it hardly ever does within a short call.
    """
    results: list[list[Any]] = [[] for _ in jobs]
    failures: list[str] = []
    start, going = monotonic(), True

    def plan() -> None:  # by one thread, while the others wait
        nonlocal going
        rounds, seconds = len(results[0]), monotonic() - start
        most = MOST if seconds < SECONDS else FEWEST if seconds < SLOW else FEWEST_SLOW
        going = rounds < most

    barrier = threading.Barrier(len(jobs), plan, PATIENCE)
    interval = sys.getswitchinterval()

    def repeat(index: int) -> None:
        trace = _interrupted(index)
        try:
            while barrier.wait() >= 0 and going:
                sys.settrace(trace if len(results[index]) % 2 else None)
                try:
                    results[index].append(jobs[index]())
                finally:
                    sys.settrace(None)
        except threading.BrokenBarrierError:
            pass
        except Exception as error:  # whatever a port raises
            failures.append(f"thread {index}: {type(error).__name__}: {error}")
            barrier.abort()

    threads = [threading.Thread(target=repeat, args=(i,), daemon=True) for i in range(len(jobs))]
    sys.setswitchinterval(SWITCH)
    try:
        for thread in threads:
            thread.start()
        _join(threads, lambda: sum(map(len, results)))
    finally:
        sys.setswitchinterval(interval)
    if failures:
        raise ThreadFailedError(f"of {len(jobs)} threads: {failures[0]}")
    if any(thread.is_alive() for thread in threads) or barrier.broken:
        raise ThreadFailedError(f"calls of {len(jobs)} threads did not return in {PATIENCE:g} s")
    return results


def _join(threads: Sequence[threading.Thread], progress: Callable[[], int]) -> None:
    """Wait until the threads end, or make no progress for `PATIENCE` seconds."""
    seen, since = -1, monotonic()
    while (running := [t for t in threads if t.is_alive()]) and monotonic() - since < PATIENCE:
        running[0].join(0.1)
        if (now := progress()) != seen:
            seen, since = now, monotonic()


def _interrupted(seed: int) -> Trace:
    """A trace function that gives way to other threads at half of all lines."""
    random = Random(seed)

    def trace(frame: FrameType, event: str, argument: Any) -> Trace:
        if random.random() < 0.5:
            sleep(0)
        return trace

    return trace


def farthest(results: Sequence[Float32], expected: Float32) -> Float32:
    """The result that differs most from the expected one, in its shape or its values."""

    def distance(result: Any) -> float:
        if np.shape(result) != expected.shape:
            return np.inf
        error = np.abs(result - expected).max(initial=0)
        return np.inf if np.isnan(error) else float(error)

    return max(results, key=distance)


def other_weights(model: Path, config: ModelConfig, folder: Path) -> bool:
    """Copy a model so that its ids and its frequency bins come in another order.

    The new model's output for `ids` is the old one's for `ids - 1`, with logits moved by one
    place, and its spectra are the old ones with reversed bins. False if the folder has graphs, or
    no weights in known files.
    """
    files = [model / name for name in ("model.safetensors", "decoder.safetensors")]
    if graphs(model) or not all(path.is_file() for path in files):
        return False
    shutil.copytree(model, folder)
    ids = np.roll(np.arange(config.language_model.vocab_size), 1)
    _reorder_rows(folder / "model.safetensors", {"model.embed_tokens": ids, "lm_head": ids})
    bins = np.arange(config.decoder.bins)[::-1]
    _reorder_rows(folder / "decoder.safetensors", {"head.out": np.r_[bins, bins + len(bins)]})
    return True


def _reorder_rows(path: Path, orders: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Reorder the rows of the tensors of modules in a safetensors file, whatever their type."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    changed = bytearray(raw)
    for name, entry in json.loads(raw[8:start]).items():
        order = orders.get(name.rpartition(".")[0])
        if order is not None:
            first, stop = (start + offset for offset in entry["data_offsets"])
            rows = np.frombuffer(raw[first:stop], np.uint8).reshape(len(order), -1)
            changed[first:stop] = rows[order].tobytes()
    path.write_bytes(changed)


def judge_concurrent(judge: Judge, vectors: Vectors, jobs: Sequence[Job]) -> None:
    """Judge each job's results, repeated in threads, against its result before.

    A job returns arrays of floats by quantity, and other values, which must be equal.
    """
    __tracebackhide__ = True
    alone = [job() for job in jobs]
    results = concurrently(jobs)
    with judge.together():
        for thread, (expected, own) in enumerate(zip(alone, results, strict=True)):
            name = f"thread {thread} of {len(jobs)}"
            for quantity, value in expected.items():
                repeated = [result[quantity] for result in own]
                judge_value(judge, vectors, f"{name}, {quantity}", repeated, value)


def judge_value(
    judge: Judge, vectors: Vectors, quantity: str, repeated: Sequence[Any], expected: Any
) -> None:
    """Judge the value that differs most from the expected one."""
    __tracebackhide__ = True
    if not isinstance(expected, np.ndarray):
        wrong = [value for value in repeated if value != expected]
        judge.equal(quantity, [*wrong, *repeated][0], expected)
        return
    what = quantity.split()[-1]
    limit = vectors.own_limit(f"step {what}" if what in ("logits", "hidden") else what)
    judge_same(judge, quantity, farthest(repeated, expected), expected, limit)
