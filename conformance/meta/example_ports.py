"""Ports as third parties write them: correct ones, and ones that follow a wrong convention."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import hidden_states
from conformance.oracle.conventions import ALIGNMENTS
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.parametric_stages import Istft, Sampler
from conformance.oracle.sampler_conventions import SAMPLERS
from soprano.backends import Backend, Capabilities, open_backend
from soprano.backends.base import PortBackend
from soprano.backends.protocol import SynthesisResult
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.errors import BackendError
from soprano.generate import Prompt, Token, generate
from soprano.stages import with_own_stages
from soprano.streaming import stream
from soprano.synthesis import shared_stages

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
        return self.runtime.decode(hidden[None], np.array([len(hidden)]))[0]


class NoisyLogits(Port):
    """A port with an error of 2e-5 in the logits of each step."""

    def step_one(self, new_id: int, cache: Any) -> Step:
        logits, hidden, cache = super().step_one(new_id, cache)
        return logits + 2e-5 * np.sin(np.arange(np.size(logits))), hidden, cache


class Ending(Port):
    """A port whose runtime ends the process with status 0."""

    def step_one(self, new_id: int, cache: Any) -> Step:
        os._exit(0)


class OwnStages(Port):
    """A port with a sampler, an ISTFT, a synthesis and a stream of its own, all of them correct."""

    sample = Sampler()
    istft = Istft()

    def tokens(self, ids: Any, options: Any, uniforms: Any, limit: int) -> list[Token]:
        return list(generate(self.stages, [Prompt(list(ids), iter(uniforms), options, limit)]))

    def synthesize(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
    ) -> SynthesisResult:
        tokens = self.tokens(ids, options, uniforms, max_new_tokens)
        states = [token.hidden for token in tokens if token.hidden is not None]
        samples = self.stages.vocode(np.array(states))
        said = [token.id for token in tokens if token.id is not None]
        return SynthesisResult(said, samples, tokens[-1].finish or "")

    def stream(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[npt.NDArray[np.float32]]:
        tokens = self.tokens(ids, options, uniforms, max_new_tokens)
        for samples, _ in stream(self.stages, tokens, chunk_size):
            yield samples


class HiddenTopK(OwnStages):
    """A port whose library applies its default top-k."""

    sample = SAMPLERS["top-k 50 where none was asked for"]


class SymmetricWindow(OwnStages):
    """A port whose ISTFT has the window of filter design."""

    istft = ISTFTS["a symmetric window"]


class LateStates(OwnStages):
    """A port whose loop decodes the state after feeding a token."""

    def tokens(self, ids: Any, options: Any, uniforms: Any, limit: int) -> list[Token]:
        tokens = super().tokens(ids, options, uniforms, limit)
        said = [token.id for token in tokens if token.id is not None]
        states = hidden_states(self, ids, said)
        late = ALIGNMENTS["the state after feeding a token, not the one that predicted it"]
        return [
            replace(token, hidden=hidden)
            for token, hidden in zip(tokens, late(states[:0], states), strict=False)
        ] + tokens[len(said) :]


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
