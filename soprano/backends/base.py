"""A backend as a network and a KV-cache policy, and a base class for ports.

`ComposedBackend` makes the protocol's checks, consumes states and decodes ragged batches.
The network is what a runtime supplies; the policy is `dynamic_cache` or `static_cache`.
`PortBackend` needs only three functions of one utterance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from soprano.backends.protocol import (
    Attestation,
    Attested,
    Capabilities,
    Float32,
    Int64,
    Output,
    Verified,
)
from soprano.checkpoint.folder import ModelFolder
from soprano.config import ModelConfig
from soprano.errors import BackendError, SopranoError, brief
from soprano.forked import Process

_SILENCE = np.zeros(0, np.float32)
REQUIRED_FIELDS = (
    "version", "device", "threads", "precision", "cache precision", "optimisation",
)  # fmt: skip


@dataclass
class State:
    """The KV cache of a batch; `step`, `select` and `join` consume it."""

    cache: Any  # of the runtime
    lengths: Int64  # (B,): ids that each row has read
    consumed: bool = field(default=False, kw_only=True)

    def consume(self) -> Self:
        if self.consumed:
            raise BackendError("state was already consumed: fork it to use it twice")
        self.consumed = True
        return self


class Network(Protocol):
    """What every runtime supplies; each KV-cache policy asks for more."""

    def attest(self) -> Attestation:
        """The effective configuration."""
        ...

    def decode(self, hidden: Float32) -> Float32:
        """Spectrum (B, F, T', 2) of hidden states (B, T, H), T at least 1."""
        ...

    def close(self) -> None:
        """Release what the runtime holds."""
        ...


@contextmanager
def naming(failure: str) -> Iterator[None]:
    """Turn an error of a runtime during inference into a `BackendError` that begins so."""
    try:
        yield
    except SopranoError:
        raise
    except Exception as error:  # the runtimes' errors share no base but Exception
        raise BackendError(f"{failure}: {brief(error)}") from error


class CachePolicy(Protocol):
    """How KV caches are made, grown and rearranged; arguments are already checked."""

    def prefill(self, network: Any, ids: Int64, lengths: Int64) -> Output: ...

    def step(self, network: Any, ids: Int64, state: Any) -> Output: ...

    def fork(self, network: Any, state: Any) -> State: ...

    def select(self, network: Any, state: Any, rows: Int64) -> State: ...

    def join(self, network: Any, first: Any, second: Any) -> State: ...


class VerifyingPolicy(CachePolicy, Protocol):
    """A policy of a backend that declares `verify`."""

    def verify(self, network: Any, ids: Int64, lengths: Int64, state: Any) -> Verified: ...

    def truncate(self, network: Any, state: Any, lengths: Int64) -> State: ...


class ComposedBackend:
    """The backend protocol around a network and a KV-cache policy."""

    def __init__(
        self,
        name: str,
        network: Network,
        cache: CachePolicy,
        config: ModelConfig,
        capabilities: Capabilities,
    ) -> None:
        self.name = name
        # Names that subclasses do not use.
        self.__network, self.__opened_in = network, Process(name, self)
        self.cache = cache
        self.config = config
        self.capabilities = capabilities

    @property
    def network(self) -> Network:
        """What the runtime supplies; an error in any other process than the one that opened it."""
        self.__opened_in.require_current()
        return self.__network

    def attest(self) -> Attestation:
        return self.network.attest()

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        return self.cache.prefill(self.network, *self._checked_ids(ids, lengths))

    def _checked_ids(self, ids: Int64, lengths: Int64) -> tuple[Int64, Int64]:
        """Zero-padded ids, without columns that no row uses, and lengths."""
        # The state keeps the lengths: a copy, since the caller may write into its own array.
        ids, lengths = np.asarray(ids, np.int64), np.array(lengths, np.int64)
        if ids.ndim != 2 or lengths.shape != ids.shape[:1]:
            raise ValueError(
                f"ids must be (B, T) and lengths (B,), got {ids.shape}, {lengths.shape}"
            )
        if not lengths.size or lengths.min() < 1 or lengths.max() > ids.shape[1]:
            raise ValueError(f"lengths must be 1 to {ids.shape[1]}, got {lengths.tolist()}")
        real = np.arange(ids.shape[1]) < lengths[:, None]
        self._check_vocabulary(ids[real])
        return np.where(real, ids, 0)[:, : lengths.max()], lengths

    def step(self, ids: Int64, state: Any) -> Output:
        ids = np.array(ids, np.int64)  # a copy: PyTorch reads no reversed arrays
        if ids.shape != state.lengths.shape:
            raise ValueError(f"ids must be {state.lengths.shape}, one a row, got {ids.shape}")
        self._check_vocabulary(ids)
        return self.cache.step(self.network, ids, state.consume())

    def verify(self, ids: Int64, lengths: Int64, state: Any) -> Verified:
        ids, lengths = self._checked_ids(ids, lengths)
        if lengths.shape != state.lengths.shape:
            raise ValueError(f"lengths must be {state.lengths.shape}, got {lengths.shape}")
        return self._verifying.verify(self.network, ids, lengths, state.consume())

    def truncate(self, state: Any, lengths: Int64) -> Any:
        lengths = np.array(lengths, np.int64)
        if lengths.shape != state.lengths.shape:
            raise ValueError(f"lengths must be {state.lengths.shape}, got {lengths.shape}")
        if not (lengths >= 1).all() or not (lengths <= state.lengths).all():
            raise ValueError(
                f"lengths must be 1 to {state.lengths.tolist()}, got {lengths.tolist()}"
            )
        return self._verifying.truncate(self.network, state.consume(), lengths)

    @property
    def _verifying(self) -> VerifyingPolicy:
        if not self.capabilities.verify:
            raise BackendError(f"{self.name} does not declare verify")
        return cast(VerifyingPolicy, self.cache)

    def _check_vocabulary(self, ids: Int64) -> None:
        size = self.config.language_model.vocab_size
        if ids.min() < 0 or ids.max() >= size:
            raise ValueError(f"ids must be 0 to {size - 1}, got {ids.min()} to {ids.max()}")

    def fork(self, state: Any) -> Any:
        if state.consumed:
            raise BackendError("state was already consumed: fork it before")
        return self.cache.fork(self.network, state)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        return self.cache.select(self.network, state.consume(), np.asarray(rows, np.int64))

    def join(self, first: Any, second: Any) -> Any:
        return self.cache.join(self.network, first.consume(), second.consume())

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        hidden, lengths = self._checked_hidden(hidden, lengths)
        decoder = self.config.decoder
        frames = decoder.frames(int(lengths.max(initial=0)))
        spectrum = np.zeros((len(hidden), decoder.bins, frames, 2), np.float32)
        # Convolutions would read padding as frames: only rows of equal length share a call.
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            decoded = self.network.decode(hidden[rows, :length])
            spectrum[rows, :, : decoder.frames(int(length))] = decoded
        return spectrum

    def _checked_hidden(self, hidden: Float32, lengths: Int64) -> tuple[Float32, Int64]:
        hidden, lengths = np.asarray(hidden, np.float32), np.asarray(lengths, np.int64)
        size = self.config.language_model.hidden_size
        if hidden.ndim != 3 or hidden.shape[2] != size or lengths.shape != hidden.shape[:1]:
            raise ValueError(
                f"hidden must be (B, T, {size}) and lengths (B,), "
                f"got {hidden.shape}, {lengths.shape}"
            )
        if lengths.size and not 0 <= lengths.min() <= lengths.max() <= hidden.shape[1]:
            raise ValueError(f"lengths must be 0 to {hidden.shape[1]}, got {lengths.tolist()}")
        return hidden, lengths

    def close(self) -> None:
        self.__network.close()


def _network_files(backend: Any) -> list[Path]:
    """The model files that a backend's network runs."""
    files: list[Path] = backend.network.files()
    return files


# For the backends of this package: a port has the member `files` only if it defines it.
network_files = property(_network_files)


class PortBackend(ComposedBackend, ABC):
    """A backend from three functions of one utterance, for ports to other runtimes.

    A subclass defines `prefill_one`, `step_one` and `decode_one`, and is itself the factory:
    `my_package:MyPort` names it on a command line. A complete one, on the PyTorch networks:

        import torch
        from soprano.backends.base import PortBackend
        from soprano.reference.load import load_decoder, load_language_model

        class MyPort(PortBackend):
            name = "my_port"

            def __init__(self, folder, *, precision="fp32", threads=None):
                super().__init__(folder, precision=precision, threads=threads)
                self.language_model = load_language_model(folder)
                self.decoder = load_decoder(folder)

            def prefill_one(self, ids):  # (T,)
                return self.run(ids, 0, self.language_model.empty_cache(1))

            def step_one(self, new_id, cache):
                return self.run([new_id], cache[0][0].shape[2], cache)

            def run(self, ids, past, cache):
                total = past + len(ids)
                mask, positions = torch.ones(1, total), torch.arange(past, total)[None]
                output = self.language_model(torch.tensor(ids)[None], mask, positions, cache)
                return output.logits[0, -1], output.hidden[0, -1], output.cache

            def decode_one(self, hidden):  # (T, H)
                return self.decoder.forward_spectral(torch.tensor(hidden)[None])[0]

    The base class checks ids, shapes and consumed states, runs the rows of a batch one by one,
    and copies every array at the boundary. Several threads may call the functions at once.
    A port may override more:

    - `capabilities`, if the precision is not "fp32" or the length is limited. `batch`, `fork`,
      `select` and `join` also need `copy_cache`.
    - `decode_audio_one(hidden)`, in place of `decode_one` or beside it: samples (N,) of hidden
      states (T, H), T at least 1, of a decoder whose output is audio.
    - `attest`: `super().attest() | {...}` with the fields that the runtime reports.
    - `close`, and any method of `soprano.backends.protocol.OptionalStages`.
    """

    name = "port"
    capabilities = Capabilities(batch=False, fork=False, select=False, join=False)

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, self.capabilities.precision, self.name)
        capabilities = self.capabilities
        spectrum = type(self).decode_one is not PortBackend.decode_one
        if hasattr(self, "decode_audio_one"):
            self.decode_audio = partial(self._decode_audio, self.decode_audio_one)
            capabilities = replace(capabilities, spectrum=spectrum)
        elif not spectrum:
            raise TypeError(f"{type(self).__name__} lacks decode_one or decode_audio_one")
        rows = _OneByOne(self)
        super().__init__(self.name, rows, rows, folder.config, capabilities)

    @abstractmethod
    def prefill_one(self, ids: Int64) -> tuple[npt.ArrayLike, npt.ArrayLike, Any]:
        """Logits (V,) and hidden state (H,) after the last of ids (T,), and a new KV cache."""

    @abstractmethod
    def step_one(self, new_id: int, cache: Any) -> tuple[npt.ArrayLike, npt.ArrayLike, Any]:
        """The same after one more id; the cache may be written in place."""

    def decode_one(self, hidden: Float32) -> npt.ArrayLike:
        """Spectrum (F, T', 2) of hidden states (T, H), T at least 1."""
        raise BackendError(f"{self.name} has no decode_one")

    def _decode_audio(
        self, decode_one: Callable[[Float32], npt.ArrayLike], hidden: Float32, lengths: Int64
    ) -> Float32:
        """`decode_audio` of `soprano.backends.protocol.OptionalStages`."""
        hidden, lengths = self._checked_hidden(hidden, lengths)
        rows = [
            np.asarray(decode_one(states[:length].copy()), np.float32) if length else _SILENCE
            for states, length in zip(hidden, lengths, strict=True)
        ]
        samples = np.zeros((len(rows), max(map(len, rows), default=0)), np.float32)
        for row, own in zip(samples, rows, strict=True):
            row[: len(own)] = own
        return samples

    def copy_cache(self, cache: Any) -> Any:
        """An independent copy of a KV cache."""
        raise BackendError(f"{self.name} cannot copy a KV cache")

    def attest(self) -> Attestation:
        return {name: Attested("unknown", "unavailable") for name in REQUIRED_FIELDS}

    def close(self) -> None:
        pass


class _OneByOne:
    """The network and the policy of a port: a batch's cache is a list with one for each row."""

    def __init__(self, port: PortBackend) -> None:
        self._port = port

    def attest(self) -> Attestation:
        return self._port.attest()

    def close(self) -> None:
        self._port.close()

    def prefill(self, network: Any, ids: Int64, lengths: Int64) -> Output:
        rows = zip(ids, lengths, strict=True)
        return self._output([self._port.prefill_one(row[:n].copy()) for row, n in rows], lengths)

    def step(self, network: Any, ids: Int64, state: State) -> Output:
        rows = zip(ids.tolist(), state.cache, strict=True)
        return self._output([self._port.step_one(*row) for row in rows], state.lengths + 1)

    def _output(self, rows: list[tuple[Any, Any, Any]], lengths: Int64) -> Output:
        model, name = self._port.config.language_model, self._port.name
        logits, hidden, caches = zip(*rows, strict=True)
        return Output(
            _stack(logits, (model.vocab_size,), f"{name}: logits"),
            _stack(hidden, (model.hidden_size,), f"{name}: hidden state"),
            State(list(caches), lengths),
        )

    def decode(self, hidden: Float32) -> Float32:
        decoder = self._port.config.decoder
        shape = (decoder.bins, decoder.frames(hidden.shape[1]), 2)
        spectra = [self._port.decode_one(row.copy()) for row in hidden]
        return _stack(spectra, shape, f"{self._port.name}: spectrum")

    def fork(self, network: Any, state: State) -> State:
        return State([self._port.copy_cache(cache) for cache in state.cache], state.lengths)

    def select(self, network: Any, state: State, rows: Int64) -> State:
        # A row may occur twice in `rows`, and a step may write its cache in place.
        caches = [self._port.copy_cache(state.cache[row]) for row in rows]
        return State(caches, state.lengths[rows])

    def join(self, network: Any, first: State, second: State) -> State:
        lengths = np.concatenate([first.lengths, second.lengths])
        return State([*first.cache, *second.cache], lengths)


def _stack(rows: Sequence[Any], shape: tuple[int, ...], what: str) -> Float32:
    """Arrays of one shape as new float32 rows."""
    arrays = [np.asarray(row, np.float32) for row in rows]
    for array in arrays:
        if array.shape != shape:
            raise BackendError(f"{what} must have shape {shape}, got {array.shape}")
    return np.stack(arrays)


def require_precision(requested: str, offered: str, name: str) -> None:
    """An error unless the requested precision class is the one that would run."""
    if requested != offered:
        raise BackendError(
            f"{name}: precision {requested!r} was requested, the model offers {offered!r}"
        )
