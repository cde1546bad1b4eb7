"""Ports as third parties write them: correct ones, and ones that follow a wrong convention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.faults.planted import own_stages
from conformance.faults.planted.own_loops import OwnLoops
from conformance.golden.observations import hidden_states
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.parametric_stages import Istft, Sampler
from conformance.oracle.sampler_conventions import SAMPLERS
from conformance.oracle.stage_conventions import Stuck
from conformance.oracle.utterance_conventions import ALIGNMENTS
from soprano.backends import Backend, Capabilities, open_backend
from soprano.backends.base import PortBackend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.errors import BackendError
from soprano.generate import Token
from soprano.stages import with_own_stages
from soprano.synthesis import shared_stages
from soprano.text import normalize, split_sentences
from soprano.tokenizer import load_tokenizer

Step = tuple[npt.ArrayLike, npt.ArrayLike, Any]  # logits (V,), hidden state (H,), KV cache


class Port(PortBackend):
    """A third party's backend, whose networks run on ONNX Runtime."""

    name = "example"

    def __init__(self, folder: ModelFolder, *, precision: str, threads: int | None) -> None:
        super().__init__(folder, precision=precision, threads=threads)
        self.runtime: Backend = open_backend("onnx_cpu", folder.path, precision, threads)
        self.stages = with_own_stages(shared_stages(self, folder.path), self, folder.path)

    def prefill_one(self, ids: npt.NDArray[np.int64]) -> Step:
        output = self.runtime.prefill(ids[None], np.array([len(ids)]))
        return output.logits[0], output.hidden[0], output.state

    def step_one(self, new_id: int, cache: Any) -> Step:
        output = self.runtime.step(np.array([new_id]), cache)
        return output.logits[0], output.hidden[0], output.state

    def decode_one(self, hidden: npt.NDArray[np.float32]) -> npt.ArrayLike:
        return self.spectrum(hidden)

    def spectrum(self, hidden: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        spectra = self.runtime.decode(hidden[None], np.array([len(hidden)]))
        return spectra[0]


class NoisyLogits(Port):
    """A port with an error of 2e-5 in the logits of each step."""

    def step_one(self, new_id: int, cache: Any) -> Step:
        logits, hidden, cache = super().step_one(new_id, cache)
        return logits + 2e-5 * np.sin(np.arange(np.size(logits))), hidden, cache


class OwnStages(Port):
    """A port with every optional stage of its own, all of them correct."""

    sample: Any = Sampler()
    istft: Any = Istft()
    is_stuck = Stuck()
    normalize = staticmethod(normalize)
    split = staticmethod(split_sentences)
    tokenize = staticmethod(load_tokenizer)
    loops: type[OwnLoops] = OwnLoops

    def __init__(self, folder: ModelFolder, *, precision: str, threads: int | None) -> None:
        super().__init__(folder, precision=precision, threads=threads)
        loops, small = type(self).loops(self, self.stages), own_stages.OwnStages(self, folder.path)
        self.synthesize, self.stream = loops.synthesize, loops.stream
        self.synthesize_batch, self.wav = loops.synthesize_batch, small.wav
        self.default_options, self.loaded_weights = small.default_options, small.loaded_weights


class AudioDecoder(OwnStages):
    """A port whose decoder gives samples instead of spectra."""

    decode_one = PortBackend.decode_one

    def decode_audio_one(self, hidden: npt.NDArray[np.float32]) -> npt.ArrayLike:
        spectrum = self.spectrum(hidden)
        return Istft()(spectrum[None], self.config.decoder.istft)[0]


class Greedy(OwnStages):
    """A port with a random generator of its own, so that it declares no uniforms."""

    capabilities = replace(PortBackend.capabilities, uniforms=False)

    def sample(self, logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
        if options.temperature:
            raise NotImplementedError("another random generator")
        return Sampler()(logits, history, options, None)


class ShortContext(OwnStages):
    """A port whose KV cache has room for 200 ids."""

    capabilities = replace(PortBackend.capabilities, max_length=200)

    def prefill_one(self, ids: npt.NDArray[np.int64]) -> Step:
        assert len(ids) <= 200, "the suite exceeded max_length"
        logits, hidden, cache = super().prefill_one(ids)
        return logits, hidden, (len(ids), cache)

    def step_one(self, new_id: int, cache: Any) -> Step:
        length, inner = cache
        assert length < 200, "the suite exceeded max_length"
        logits, hidden, inner = super().step_one(new_id, inner)
        return logits, hidden, (length + 1, inner)


class HiddenTopK(OwnStages):
    """A port whose library applies its default top-k."""

    sample = SAMPLERS["top-k 50 where none was asked for"]


class SymmetricWindow(OwnStages):
    """A port whose ISTFT has the window of filter design."""

    istft = ISTFTS["a symmetric window"]


class _LateLoops(OwnLoops):
    def tokens(self, *arguments: Any) -> Iterator[Token]:
        tokens = list(super().tokens(*arguments))
        drawn = [token.id for token in tokens if token.id is not None]
        states = hidden_states(self.inner, arguments[0], drawn)
        late = ALIGNMENTS["the state after feeding a token, not the one that predicted it"]
        for token, hidden in zip(tokens, late(states[:0], states), strict=False):
            yield replace(token, hidden=hidden)
        yield from tokens[len(drawn) :]


class LateStates(OwnStages):
    """A port whose loop decodes the state after feeding a token."""

    loops = _LateLoops


def unable(folder: ModelFolder, *, precision: str, threads: int | None) -> Backend:
    """A backend whose runtime does not start."""
    raise BackendError("no such accelerator")


class _Incomplete:
    """What a port offers before its author has written `step` and `decode`."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.config, self.capabilities = "incomplete", backend.config, Capabilities()
        self.attest, self.prefill, self.close = backend.attest, backend.prefill, backend.close
        self.fork, self.select, self.join = backend.fork, backend.select, backend.join


def incomplete(folder: ModelFolder, *, precision: str, threads: int | None) -> object:
    return _Incomplete(open_backend("onnx_cpu", folder.path, precision, threads))
