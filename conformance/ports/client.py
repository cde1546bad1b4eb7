"""The backend protocol over the process protocol: `exec:COMMAND` as a backend."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from conformance.ports import wire
from conformance.ports.process import LIMITS, MOST_FAILURES, PortProcess, PortProcessError
from conformance.ports.wire import WireError, decode_array
from soprano.backends import (
    Attestation,
    Attested,
    Backend,
    Capabilities,
    Output,
    SynthesisResult,
    Verified,
)
from soprano.backends.base import REQUIRED_FIELDS, PortBackend
from soprano.backends.protocol import Float32, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.config import IstftConfig, SamplingOptions

ROW = frozenset({"prefill_one", "step_one"})  # of a port that processes single utterances
BATCH = frozenset({"prefill", "step"})
VERIFY = frozenset({"verify", "truncate"})
DECODERS = frozenset({"decode", "decode_one", "decode_audio", "decode_audio_one"})
STAGES = (
    "normalize", "split", "tokenize", "sample", "istft", "is_stuck", "synthesize",
    "synthesize_batch", "stream", "wav", "decode_audio", "default_options", "loaded_weights",
    "tap",
)  # fmt: skip


class RemoteState:
    """A state that the port keeps under a handle; the port is told when it is no longer needed."""

    def __init__(self, process: PortProcess, handle: Any) -> None:
        self.handle = handle
        release = weakref.finalize(self, process.released.append, handle)
        release.atexit = False
        self.consumed = release.detach


class ProcessPort:
    """What a port answers, as arrays; each method is one request."""

    def __init__(
        self,
        command: str,
        folder: ModelFolder,
        precision: str,
        threads: int | None,
        seconds: float | None,
    ) -> None:
        self.config = folder.config
        self._command, self._seconds = command, seconds
        self._request = {
            "protocol": wire.VERSION,
            "model": str(folder.path),
            "precision": precision,
            "threads": threads,
        }
        self._failures, self._closed = 0, False
        self._starting = threading.Lock()
        self._process, self.hello = self._start()

    @property
    def process(self) -> PortProcess:
        """The running process; one that failed is replaced by a new one, a few times."""
        with self._starting:
            if self._closed:
                raise PortProcessError("the port is closed")
            self._process.require_running()
            if failure := self._process.failure:
                self._failures += MOST_FAILURES if "within" in failure else 1
                if self._failures > 3 * MOST_FAILURES:
                    raise PortProcessError(f"{failure} (not started again: it failed too often)")
                self._process.close()
                self._process, self.hello = self._start()
            return self._process

    def close(self) -> None:
        self._closed = True
        self._process.close()

    def _start(self) -> tuple[PortProcess, SimpleNamespace]:
        process = PortProcess(self._command, self._seconds)
        try:
            params = {**self._request, "folder": str(process.folder)}
            return process, _greeting(process.call("hello", params, LIMITS.opening))
        except BaseException:
            process.close()
            raise

    def array(self, result: Any, key: str, method: str) -> Any:
        if not isinstance(result, dict) or key not in result:
            raise WireError(f"the result of {method} has no {key!r}")
        return decode_array(result[key], f"{method}: {key}", self.process.folder)

    def network(self, method: str, **params: Any) -> Output:
        """A request whose result is `logits`, `hidden` and `state`."""
        result = self.process.call(method, params)
        logits, hidden = (self.array(result, key, method) for key in ("logits", "hidden"))
        return Output(logits, hidden, self.state(result, method))

    def state(self, result: Any, method: str) -> RemoteState:
        if not isinstance(result, dict) or "state" not in result:
            raise WireError(f"the result of {method} has no 'state'")
        return RemoteState(self.process, result["state"])

    def samples(self, method: str, **params: Any) -> Any:
        return self.array(self.process.call(method, params), "samples", method)

    def utterance(self, result: Any, method: str) -> SynthesisResult:
        samples = self.array(result, "samples", method)
        ids = result.get("ids")
        if not isinstance(ids, list):
            raise WireError(f"the result of {method} has no list 'ids'")
        return SynthesisResult(ids, samples, str(result.get("finish", "")))

    def optional(self) -> dict[str, Callable[..., Any]]:
        """The optional stages that the port offers, with the signatures of `OptionalStages`."""
        return {
            name: partial(globals()[f"_{name}"], self)
            for name in STAGES
            if name in self.hello.methods
        }


def _greeting(answer: Any) -> SimpleNamespace:
    """The answer to `hello`, checked."""
    if not isinstance(answer, dict) or answer.get("protocol") != wire.VERSION:
        found = answer.get("protocol") if isinstance(answer, dict) else answer
        raise WireError(f"protocol version {wire.VERSION} is expected, got {found!r}")
    methods = answer.get("methods")
    if not isinstance(methods, list) or not all(isinstance(name, str) for name in methods):
        raise WireError(f"hello: methods must be a list of names, got {methods!r}")
    return SimpleNamespace(
        name=str(answer.get("name", "port")),
        version=str(answer.get("version", "unknown")),
        methods=frozenset(methods),
        capabilities=_capabilities(answer.get("capabilities", {}), frozenset(methods)),
        attested=_attested(answer.get("attest", {}), str(answer.get("version", "unknown"))),
    )


def _capabilities(stated: Any, methods: frozenset[str]) -> Capabilities:
    if not isinstance(stated, dict):
        raise WireError(f"hello: capabilities must be an object, got {stated!r}")
    known = {field.name for field in fields(Capabilities)}
    if unknown := sorted(set(stated) - known):
        raise WireError(f"hello: unknown capabilities {', '.join(unknown)}")
    # Nothing is assumed of a port: what it does not declare is not asked of it.
    plain: dict[str, Any] = dict.fromkeys(("batch", "fork", "select", "join", "threads"), False)
    plain["language_model"] = methods >= ROW or methods >= BATCH
    plain["decoder"] = bool(methods & DECODERS)
    plain["spectrum"] = bool(methods & {"decode", "decode_one"})
    plain["verify"] = methods >= BATCH | VERIFY
    stated = {key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}
    for key, value in stated.items():
        default = getattr(Capabilities(), key)
        if type(value) not in ((int, type(None)) if default is None else (type(default),)):
            raise WireError(f"hello: capability {key} has a value of a wrong type: {value!r}")
    return Capabilities(**{**plain, **stated})


def _attested(stated: Any, version: str) -> Attestation:
    if not isinstance(stated, dict):
        raise WireError(f"hello: attest must be an object, got {stated!r}")
    fields_ = {name: Attested("unknown", "unavailable") for name in REQUIRED_FIELDS}
    if version != "unknown":
        fields_["version"] = Attested(version, "read back")
    for name, entry in stated.items():
        if not isinstance(entry, dict) or not {"value", "how"} <= set(entry):
            raise WireError(f"hello: attest: {name} must have value and how, got {entry!r}")
        fields_[name] = Attested(str(entry["value"]), str(entry["how"]))
    return fields_


def _normalize(port: ProcessPort, text: str) -> Any:
    return port.process.call("normalize", {"text": text})


def _split(port: ProcessPort, text: str) -> Any:
    return port.process.call("split", {"text": text})


def _tokenize(port: ProcessPort, model: Path) -> Any:
    def prompt(sentence: str) -> Any:
        return port.process.call("tokenize", {"model": str(model), "sentence": sentence})

    prompt("a")  # a file that cannot be read is an error now
    return SimpleNamespace(prompt=prompt)


def _sample(
    port: ProcessPort,
    logits: Float32,
    history: Sequence[int],
    options: SamplingOptions,
    uniform: float | None,
) -> Any:
    params = {"logits": _float32(logits), "history": _list(history)}
    return port.process.call("sample", {**params, "options": asdict(options), "uniform": uniform})


def _istft(
    port: ProcessPort,
    spectrum: Float32,
    config: IstftConfig,
    layout: str = "bft2",
    *,
    length: int | None = None,
) -> Any:
    params = {"spectrum": np.asarray(spectrum), "config": asdict(config), "layout": layout}
    return port.samples("istft", **params, length=length)


def _is_stuck(port: ProcessPort, hidden: Float32, distance: float) -> Any:
    params = {"hidden": _float32(hidden), "distance": distance}
    return port.process.call("is_stuck", params)


def _utterance_params(
    ids: Any, options: SamplingOptions, uniforms: Any, max_new_tokens: int
) -> dict[str, Any]:
    return {
        "ids": ids,
        "options": asdict(options),
        "uniforms": uniforms,
        "max_new_tokens": max_new_tokens,
    }


def _synthesize(
    port: ProcessPort,
    ids: Sequence[int],
    options: SamplingOptions,
    uniforms: Sequence[float],
    max_new_tokens: int,
) -> SynthesisResult:
    params = _utterance_params(_list(ids), options, list(uniforms), max_new_tokens)
    return port.utterance(port.process.call("synthesize", params), "synthesize")


def _synthesize_batch(
    port: ProcessPort,
    ids: Sequence[Sequence[int]],
    options: SamplingOptions,
    uniforms: Sequence[Sequence[float]],
    max_new_tokens: int,
) -> list[SynthesisResult]:
    rows = [list(row) for row in uniforms]
    params = _utterance_params([_list(row) for row in ids], options, rows, max_new_tokens)
    results = port.process.call("synthesize_batch", params)
    if not isinstance(results, list):
        raise WireError("the result of synthesize_batch must be a list")
    return [port.utterance(result, "synthesize_batch") for result in results]


def _stream(
    port: ProcessPort,
    ids: Sequence[int],
    options: SamplingOptions,
    uniforms: Sequence[float],
    max_new_tokens: int,
    chunk_size: int,
) -> Iterator[Any]:
    params = _utterance_params(_list(ids), options, list(uniforms), max_new_tokens)
    for chunk in port.process.stream("stream", {**params, "chunk_size": chunk_size}):
        yield decode_array(chunk, "stream: chunk", port.process.folder)


def _wav(port: ProcessPort, samples: Float32, sample_rate: int) -> bytes:
    params = {"samples": _float32(samples), "sample_rate": sample_rate}
    data = port.array(port.process.call("wav", params), "bytes", "wav")
    if data.ndim != 1 or (data != data.astype(np.uint8)).any():
        raise WireError("wav: bytes must be a list of integers from 0 to 255")
    return bytes(data.astype(np.uint8))


def _decode_audio(port: ProcessPort, hidden: Float32, lengths: Int64) -> Any:
    return port.samples("decode_audio", hidden=_float32(hidden), lengths=_list(lengths))


def _default_options(port: ProcessPort) -> SamplingOptions:
    stated = _object(port.process.call("default_options", {}), "default_options")
    if unknown := sorted(set(stated) - {field.name for field in fields(SamplingOptions)}):
        raise WireError(f"default_options: unknown options {', '.join(unknown)}")
    return SamplingOptions(**stated)


def _loaded_weights(port: ProcessPort) -> dict[str, dict[str, Any]]:
    stated = _object(port.process.call("loaded_weights", {}), "loaded_weights")
    return {part: _arrays(port, own, f"loaded_weights: {part}") for part, own in stated.items()}


def _tap(port: ProcessPort, names: Sequence[str], **params: Any) -> dict[str, Any]:
    return _arrays(port, port.process.call("tap", {"names": list(names), **params}), "tap")


def _arrays(port: ProcessPort, stated: Any, what: str) -> dict[str, Any]:
    folder = port.process.folder
    return {name: decode_array(a, name, folder) for name, a in _object(stated, what).items()}


def _object(stated: Any, what: str) -> dict[str, Any]:
    if not isinstance(stated, dict):
        raise WireError(f"{what}: the result must be an object, got {str(stated)[:80]}")
    return stated


def _float32(values: Any) -> Float32:
    return np.asarray(values, np.float32)


def _list(values: Any) -> Any:
    return np.asarray(values).tolist()


class BatchPort:
    """A port that implements `prefill`, `step` and `decode` for batches."""

    def __init__(
        self, port: ProcessPort, folder: ModelFolder, precision: str, threads: int | None
    ) -> None:
        self._port = port
        self.name, self.config = port.hello.name, port.config
        self.capabilities: Capabilities = port.hello.capabilities
        vars(self).update(port.optional())

    def attest(self) -> Attestation:
        attested: Attestation = self._port.hello.attested
        return attested

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        return self._port.network("prefill", ids=_list(ids), lengths=_list(lengths))

    def step(self, ids: Int64, state: RemoteState) -> Output:
        output = self._port.network("step", ids=_list(ids), state=state.handle)
        state.consumed()
        return output

    def verify(self, ids: Int64, lengths: Int64, state: RemoteState) -> Verified:
        params = {"ids": _list(ids), "lengths": _list(lengths), "state": state.handle}
        output = self._port.network("verify", **params)
        state.consumed()
        return Verified(*output)

    def truncate(self, state: RemoteState, lengths: Int64) -> RemoteState:
        params = {"state": state.handle, "lengths": _list(lengths)}
        cut = self._port.state(self._port.process.call("truncate", params), "truncate")
        state.consumed()
        return cut

    def decode(self, hidden: Float32, lengths: Int64) -> Any:
        result = self._port.process.call(
            "decode", {"hidden": _float32(hidden), "lengths": _list(lengths)}
        )
        return self._port.array(result, "spectrum", "decode")

    def fork(self, state: RemoteState) -> RemoteState:
        return self._port.state(self._port.process.call("fork", {"state": state.handle}), "fork")

    def select(self, state: RemoteState, rows: Sequence[int]) -> RemoteState:
        params = {"state": state.handle, "rows": _list(rows)}
        selected = self._port.state(self._port.process.call("select", params), "select")
        state.consumed()
        return selected

    def join(self, first: RemoteState, second: RemoteState) -> RemoteState:
        params = {"first": first.handle, "second": second.handle}
        joined = self._port.state(self._port.process.call("join", params), "join")
        first.consumed()
        second.consumed()
        return joined

    def close(self) -> None:
        self._port.close()


class RowPort(PortBackend):
    """A port that implements `prefill_one`, `step_one` and `decode_one` for one utterance."""

    def __init__(
        self, port: ProcessPort, folder: ModelFolder, precision: str, threads: int | None
    ) -> None:
        self._port = port
        self.name = port.hello.name
        self.capabilities = port.hello.capabilities
        if "decode_audio_one" in port.hello.methods:
            self.decode_audio_one = self._decode_audio_one
        super().__init__(folder, precision=precision, threads=threads)
        self.capabilities = port.hello.capabilities
        vars(self).update(port.optional())

    def attest(self) -> Attestation:
        attested: Attestation = self._port.hello.attested
        return attested

    def prefill_one(self, ids: Int64) -> Output:
        return self._port.network("prefill_one", ids=_list(ids))

    def step_one(self, new_id: int, cache: RemoteState) -> Output:
        output = self._port.network("step_one", id=int(new_id), state=cache.handle)
        cache.consumed()
        return output

    def decode_one(self, hidden: Float32) -> Any:
        result = self._port.process.call("decode_one", {"hidden": _float32(hidden)})
        return self._port.array(result, "spectrum", "decode_one")

    def _decode_audio_one(self, hidden: Float32) -> Any:
        return self._port.samples("decode_audio_one", hidden=_float32(hidden))

    def copy_cache(self, cache: RemoteState) -> RemoteState:
        result = self._port.process.call("copy_state", {"state": cache.handle})
        return self._port.state(result, "copy_state")

    def close(self) -> None:
        self._port.close()


def open_process(
    command: str,
    model: str | Path,
    precision: str = "fp32",
    threads: int | None = None,
    seconds: float | None = None,
) -> Backend:
    """Start a port and open a model on it.

    Args:
        command: the program and its arguments, as in a shell.
        seconds: the time limit of one request; None for that of the run.

    Raises:
        PortError: the port refused the model.
        PortProcessError, WireError: there is no valid answer.
    """
    folder = ModelFolder.open(model)
    port = ProcessPort(command, folder, precision, threads, seconds)
    methods = port.hello.methods
    rows = methods & {"decode_one", "decode_audio_one"} or methods >= ROW
    kind = RowPort if rows and not methods >= BATCH else BatchPort
    return kind(port, folder, precision, threads)
