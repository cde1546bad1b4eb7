"""Backends with one bug each, such as ports have: the suite must see every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from soprano.backends import Backend, Output, open_backend
from soprano.errors import BackendError
from soprano.model import ModelFolder


class Port:
    """A third party's backend: everything passes through to ONNX Runtime."""

    def __init__(self, folder: ModelFolder, *, precision: str, threads: int | None) -> None:
        self._inner: Backend = open_backend("onnx_cpu", folder.path, precision, threads)
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def prefill(self, ids: np.ndarray, lengths: np.ndarray) -> Output:
        return self._inner.prefill(ids, lengths)

    def step(self, ids: np.ndarray, state: Any) -> Output:
        return self._inner.step(ids, state)

    def decode(self, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return self._inner.decode(hidden, lengths)


class NoisyLogits(Port):
    """An error of a few thousandths of a per cent in every logit of a step."""

    def step(self, ids: np.ndarray, state: Any) -> Output:
        output = super().step(ids, state)
        wave = np.sin(np.arange(output.logits.size)).reshape(output.logits.shape)
        return output._replace(logits=output.logits + np.float32(2e-5) * wave.astype(np.float32))


class OneBadBin(Port):
    """One spectral value of one frame is a thousandth off."""

    def decode(self, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        spectrum = super().decode(hidden, lengths).copy()
        if spectrum.shape[2] > 3:
            spectrum[0, 5, 3, 0] += 0.01
        return spectrum


class SharedBuffer(Port):
    """Every step's hidden states are returned in one array that is filled again."""

    _buffer: np.ndarray | None = None

    def step(self, ids: np.ndarray, state: Any) -> Output:
        output = super().step(ids, state)
        if self._buffer is None or self._buffer.shape != output.hidden.shape:
            self._buffer = output.hidden.copy()
        self._buffer[...] = output.hidden
        return output._replace(hidden=self._buffer)


class UnclippedHead(Port):
    """Magnitudes beyond the clip are let through a little."""

    def decode(self, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        spectrum = super().decode(hidden, lengths)
        magnitude = np.hypot(spectrum[..., :1], spectrum[..., 1:])
        return np.where(magnitude > 99.99, spectrum * np.float32(1.01), spectrum)


class ZeroPaddedBatch(Port):
    """A ragged batch is decoded as one rectangle, so that neighbours reach into a row."""

    def decode(self, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        longest = int(lengths.max(initial=0))
        spectrum = super().decode(hidden[:, :longest], np.full_like(lengths, longest)).copy()
        for row, length in enumerate(lengths):
            spectrum[row, :, self.config.decoder.frames(int(length)) :] = 0
        return spectrum


def unable(folder: ModelFolder, *, precision: str, threads: int | None) -> Backend:
    """A backend whose runtime does not start."""
    raise BackendError("no such accelerator")
