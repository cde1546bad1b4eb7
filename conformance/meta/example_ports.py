"""Ports as third parties bring them: one that is right, and some with a convention of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from soprano.backends import Backend, Output, Spoken, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import IstftConfig, SamplingOptions
from soprano.errors import BackendError
from soprano.generate import Prompt, generate
from soprano.sampling import sample
from soprano.streaming import StreamingDecoder

transform = import_module("soprano.stft")  # its name in the package is the function


class Port:
    """A third party's backend: everything passes through to ONNX Runtime."""

    def __init__(self, folder: ModelFolder, *, precision: str, threads: int | None) -> None:
        self._inner: Backend = open_backend("onnx_cpu", folder.path, precision, threads)

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


class Ending(Port):
    """A port whose runtime takes the process with it, and says that all is well."""

    def step(self, ids: np.ndarray, state: Any) -> Output:
        os._exit(0)


class OwnStages(Port):
    """A port with a sampler, a transform, a loop and a stream of its own, all of them right."""

    def sample(self, logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
        return sample(logits, history, options, uniform)

    def istft(self, spectrum: Any, config: IstftConfig, layout: str, **options: Any) -> Any:
        return transform.istft(spectrum, config, layout, **options)

    def synthesize(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
    ) -> Spoken:
        said, states, finish = self._speak(ids, options, uniforms, max_new_tokens)
        spectrum = self.decode(states[None], np.array([len(states)]))
        samples = transform.istft(spectrum, self.config.decoder.istft)[0]
        return Spoken(said, samples, finish)

    def stream(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[np.ndarray]:
        decoder = StreamingDecoder(self)
        for state in self._speak(ids, options, uniforms, max_new_tokens)[1]:
            decoder.add(state)
            if decoder.ready >= chunk_size * self.config.decoder.samples_per_token:
                yield decoder.flush()
        yield decoder.flush(last=True)

    def _speak(self, ids: Any, options: Any, uniforms: Any, limit: int) -> Any:
        tokens = list(generate(self, [Prompt(list(ids), iter(uniforms), options, limit)]))
        states = [token.hidden for token in tokens if token.hidden is not None]
        none = np.zeros((0, self.config.language_model.hidden_size), np.float32)
        said = [token.id for token in tokens if token.id is not None]
        return said, np.stack(states) if states else none, tokens[-1].finish


class HiddenTopK(OwnStages):
    """A library's own top-k of 50 where none was asked for."""

    def sample(self, logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
        return sample(logits, history, replace(options, top_k=options.top_k or 50), uniform)


class SymmetricWindow(OwnStages):
    """An inverse transform with the window of filter design."""

    def istft(self, spectrum: Any, config: IstftConfig, layout: str, **options: Any) -> Any:
        usual, size = transform.window, config.win_length
        points = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / max(size - 1, 1))
        transform.window = lambda _: points  # type: ignore[assignment]
        try:
            return transform.istft(spectrum, config, layout, **options)
        finally:
            transform.window = usual


class LateStates(OwnStages):
    """A loop that keeps the state after feeding a token instead of the one that predicted it."""

    def _speak(self, ids: Any, options: Any, uniforms: Any, limit: int) -> Any:
        said, states, finish = super()._speak(ids, options, uniforms, limit)
        output = self.prefill(np.array([ids]), np.array([len(ids)]))
        late = []
        for number in said:
            output = self.step(np.array([number]), output.state)
            late.append(output.hidden[0])
        return said, np.stack(late) if late else states, finish


def unable(folder: ModelFolder, *, precision: str, threads: int | None) -> Backend:
    """A backend whose runtime does not start."""
    raise BackendError("no such accelerator")
