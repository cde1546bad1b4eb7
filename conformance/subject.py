"""What a run judges, as a value: a planted fault replaces one of its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.golden.packs import Pack, find_pack
from conformance.judging.skips import NotDeclared
from conformance.ports.in_process import open_guarded
from conformance.ports.python_client import open_python_port
from soprano.backends import BUILT_IN, Backend, Float32, Int64, Output, Verified, open_backend
from soprano.stages import Stages
from soprano.synthesis import SopranoTTS, shared_stages
from soprano.tokenizer import Tokenizer, load_tokenizer


def is_own(name: str) -> bool:
    """Whether a backend is of this package, and so runs in the process of the suite."""
    return name in BUILT_IN or name.startswith("soprano.")


def open_any_backend(
    name: str, model: str | Path, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """`soprano.open_backend`, with a port in a process of its own.

    A port is "exec:COMMAND", or a Python port that is not of this package; "onnx:PATH" is one ONNX
    file.
    """
    scheme, _, command = name.partition(":")
    if is_own(name):
        return open_backend(name, model, precision, threads)
    if scheme == "onnx":
        from conformance.ports.onnx_file import open_onnx_file

        return open_onnx_file(command, model, precision, threads)
    if scheme != "exec":
        return open_python_port(name, model, precision, threads)
    from conformance.ports.client import open_process

    return open_process(command, model, precision, threads)


def open_in_process(
    name: str, model: str | Path, precision: str = "fp32", threads: int | None = None
) -> Backend:
    """The same, with Python ports in the process of the suite."""
    if is_own(name) or name.startswith(("exec:", "onnx:")):
        return open_any_backend(name, model, precision, threads)
    opened: Backend = open_guarded(lambda: open_backend(name, model, precision, threads))
    return opened


def open_voice(model: Path, stages: Stages) -> SopranoTTS:
    return SopranoTTS(model, stages=stages)


@dataclass(frozen=True)
class Subject:
    """How the parts under test are made."""

    open_backend: Callable[..., Backend] = open_any_backend  # name, model, precision, threads
    load_tokenizer: Callable[[Path], Tokenizer] = load_tokenizer
    stages: Callable[[Stages], Stages] = lambda stages: stages  # changes the shared pipeline
    voice: Callable[[Path, Stages], SopranoTTS] = open_voice  # model, stages
    find_pack: Callable[[Path, Path | None], Pack] = find_pack  # model, reference

    def open(
        self, name: str, model: Path, precision: str = "fp32", threads: int | None = None
    ) -> Backend:
        """A backend that is given no more rows and no longer sequences than it declares."""
        opened: Any = self.open_backend(name, model, precision, threads)
        able = getattr(opened, "capabilities", None)
        if getattr(able, "max_length", None) is not None:
            opened = WithinLength(opened)
        return opened if getattr(able, "batch", True) else OneRowAtATime(opened)

    def stages_of(self, backend: Backend, model: Path) -> Stages:
        """The pipeline of a backend and a model."""
        return self.stages(shared_stages(backend, model, self.load_tokenizer))


class Rows(list[Any]):
    """The state of a batch: one state for each row."""


class OneRowAtATime:
    """A backend that does not declare batches: the rows of a batch are passed one by one.

    A call of one row, or of arrays that are not valid, is passed unchanged.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.backend, name)
        return partial(self._decode_audio, member) if name == "decode_audio" else member

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        if len(lengths) < 2 or len(lengths) != len(ids):
            output: Output = self.backend.prefill(ids, lengths)
            return output
        rows = zip(ids, lengths, strict=True)
        return _batch([self.backend.prefill(row[None, :n], np.array([n])) for row, n in rows])

    def step(self, ids: Int64, state: Any) -> Output:
        if not isinstance(state, Rows):
            output: Output = self.backend.step(ids, state)
            return output
        rows = zip(ids, state, strict=True)
        return _batch([self.backend.step(np.array([row]), own) for row, own in rows])

    def fork(self, state: Any) -> Any:
        if not isinstance(state, Rows):
            return self.backend.fork(state)
        return Rows(self.backend.fork(own) for own in state)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        if not isinstance(state, Rows):
            return self.backend.select(state, rows)
        return Rows(self.backend.select(state[row], [0]) for row in rows)

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        if len(lengths) < 2 or len(lengths) != len(hidden):
            spectrum: Float32 = self.backend.decode(hidden, lengths)
            return spectrum
        spectra = [
            self.backend.decode(row[None, :n], np.array([n]))[0]
            for row, n in zip(hidden, lengths, strict=True)
        ]
        frames = max(spectrum.shape[1] for spectrum in spectra)
        return np.stack([np.pad(s, ((0, 0), (0, frames - s.shape[1]), (0, 0))) for s in spectra])

    def _decode_audio(
        self, decode: Callable[[Float32, Int64], Float32], hidden: Float32, lengths: Int64
    ) -> Float32:
        if len(lengths) < 2 or len(lengths) != len(hidden):
            return decode(hidden, lengths)
        rows = zip(hidden, lengths, strict=True)
        samples = [decode(row[None, :n], np.array([n]))[0] for row, n in rows]
        longest = max(map(len, samples))
        return np.stack([np.pad(row, (0, longest - len(row))) for row in samples])


@dataclass(frozen=True)
class Counted:
    """A backend's state, and how many ids each row has read."""

    state: Any
    lengths: Int64


class WithinLength:
    """A backend that declares a maximum length: a test that needs more is not applicable.

    A call with a state or arrays that are not valid is passed unchanged.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        self._require(lengths)
        return self._counted(self.backend.prefill(ids, lengths), np.array(lengths))

    def step(self, ids: Int64, state: Any) -> Output:
        if not isinstance(state, Counted):
            output: Output = self.backend.step(ids, state)
            return output
        self._require(state.lengths + 1)
        return self._counted(self.backend.step(ids, state.state), state.lengths + 1)

    def verify(self, ids: Int64, lengths: Int64, state: Any) -> Any:
        if not isinstance(state, Counted):
            return self.backend.verify(ids, lengths, state)
        read = state.lengths + np.asarray(lengths)
        self._require(read)
        logits, hidden, after = self.backend.verify(ids, lengths, state.state)
        return Verified(logits, hidden, Counted(after, read))

    def truncate(self, state: Any, lengths: Int64) -> Any:
        if not isinstance(state, Counted):
            return self.backend.truncate(state, lengths)
        return Counted(self.backend.truncate(state.state, lengths), np.array(lengths))

    def fork(self, state: Any) -> Any:
        return replace(state, state=self.backend.fork(state.state))

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        return Counted(self.backend.select(state.state, rows), state.lengths[list(rows)])

    def join(self, first: Any, second: Any) -> Any:
        lengths = np.concatenate([first.lengths, second.lengths])
        return Counted(self.backend.join(first.state, second.state), lengths)

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        self._require(lengths)
        spectrum: Float32 = self.backend.decode(hidden, lengths)
        return spectrum

    def _require(self, lengths: Any) -> None:
        most = self.backend.capabilities.max_length
        needed = int(np.max(lengths, initial=0))
        if needed > most:
            raise NotDeclared(f"{needed} ids are needed, and {self.backend.name} declares {most}")

    @staticmethod
    def _counted(output: Output, lengths: Int64) -> Output:
        return output._replace(state=Counted(output.state, lengths))


def _batch(outputs: Sequence[Output]) -> Output:
    """Outputs of single rows as one."""
    return Output(
        np.concatenate([output.logits for output in outputs]),
        np.concatenate([output.hidden for output in outputs]),
        Rows(output.state for output in outputs),
    )


class Hooks:
    """Hooks of this plugin that another plugin may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_conformance_subject(self) -> Subject | None:
        """The subject of the run, in place of `Subject()`."""
