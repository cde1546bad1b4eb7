"""The backend protocol: what every implementation of the two networks offers.

Arrays that cross it are NumPy float32 and int64, whatever runs inside.
An array that was returned is never overwritten, and an array that was given is neither written
nor kept.
Its memory order is not fixed: C or Fortran order, strided, reversed and read-only arrays occur.
Any number of threads may call one backend at the same time, unless it declares `threads=False`;
results do not depend on that.
A state belongs to one caller: two threads must not pass the same state at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from soprano.config import IstftConfig, ModelConfig, SamplingOptions

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Output(NamedTuple):
    """The language model's output after the last id of each row."""

    logits: Float32  # (B, V)
    hidden: Float32  # (B, H), after the final norm
    state: Any  # holds the KV cache; its type is the backend's own


class Verified(NamedTuple):
    """The language model's output after each of several ids; values after padding are arbitrary."""

    logits: Float32  # (B, T, V)
    hidden: Float32  # (B, T, H), after the final norm
    state: Any


@dataclass(frozen=True)
class Capabilities:
    """What a backend declares that it supports; only what is declared is asked of it."""

    precision: str = "fp32"
    activations: str = "float32"  # activation precision of matmuls: "float32" or "int8"
    batch: bool = True
    fork: bool = True
    select: bool = True
    join: bool = True
    max_length: int | None = None  # ids of prompt and new tokens together; None: no limit
    threads: bool = True  # calls from several threads at the same time
    uniforms: bool = True  # its own sampler and loops use the uniforms given; else greedy only
    language_model: bool = True  # `prefill` and `step`
    verify: bool = False  # `verify` and `truncate`, which self-speculation needs
    decoder: bool = True  # `decode` or `decode_audio`
    spectrum: bool = True  # `decode`; else only `decode_audio`
    layouts: tuple[str, ...] = ("bft2",)  # of its own `istft`: "bft2", "b2ft"

    @property
    def rounded(self) -> bool:
        """Whether weights or arithmetic are less precise than float32."""
        return self.precision != "fp32"

    @property
    def quantised(self) -> bool:
        """Whether weights are quantised."""
        return self.precision.startswith("int")

    @property
    def rounds_activations(self) -> bool:
        """Whether matmuls round their inputs."""
        return self.activations != "float32"

    @property
    def float_activations(self) -> bool:
        """Whether matmuls read their inputs in float32."""
        return not self.rounds_activations


@dataclass(frozen=True)
class Attested:
    """One field of the effective configuration and how it is known."""

    value: str
    how: str  # "read back", "inferred" or "unavailable"


Attestation = dict[str, Attested]


class Backend(Protocol):
    """A language model and a decoder; B rows, T ids or hidden states.

    `soprano.backends.base.PortBackend` supplies everything here from three functions.
    """

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> ModelConfig: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def attest(self) -> Attestation:
        """The effective configuration."""
        ...

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        """Read right-padded ids (B, T), of which `lengths` (B,) are real, at least one a row.

        The padding may hold any value, also ids outside the vocabulary.

        Raises:
            ValueError: an id is outside the vocabulary, or a shape or a length is wrong.
        """
        ...

    def step(self, ids: Int64, state: Any) -> Output:
        """Read one id a row (B,); the state is consumed.

        Raises:
            ValueError: an id is outside the vocabulary, or there is not one for each row.
            BackendError: the state was consumed before.
        """
        ...

    def fork(self, state: Any) -> Any:
        """An independent copy; the state is not consumed."""
        ...

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The given rows, in that order; the state is consumed."""
        ...

    def join(self, first: Any, second: Any) -> Any:
        """The rows of both, first before second; both are consumed."""
        ...

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        """Spectrum (B, F, T', 2) of hidden states (B, T, H), of which `lengths` (B,) are real.

        T' is the longest row's number of frames; shorter rows end in zeros.
        Hidden states beyond a row's length may hold any value, also NaN and Inf.

        Raises:
            ValueError: hidden states of another width, or a wrong shape or length.
        """
        ...

    def close(self) -> None:
        """Release what the runtime holds."""
        ...


class VerifyingBackend(Backend, Protocol):
    """A backend that declares `verify`: several ids a row in one pass, which can be taken back."""

    def verify(self, ids: Int64, lengths: Int64, state: Any) -> Verified:
        """Read right-padded ids (B, T), of which `lengths` (B,) are real, at least one a row.

        The outputs are those of one step for each id; the state is consumed.

        Raises:
            ValueError: an id is outside the vocabulary, or a shape or a length is wrong.
            BackendError: the state was consumed before.
        """
        ...

    def truncate(self, state: Any, lengths: Int64) -> Any:
        """The rows as they were after their first `lengths` (B,) ids; the state is consumed.

        Raises:
            ValueError: a row has read fewer ids, or would keep none.
        """
        ...


class SynthesisResult(NamedTuple):
    """What a backend's own `synthesize` returns for one prompt."""

    ids: list[int]  # audio tokens, without `[STOP]`
    samples: Float32  # (N,)
    finish: str  # "stop" or "length"


Spoken = SynthesisResult


class OptionalStages(Protocol):
    """Methods by which a backend may replace shared stages; it is judged on each that it has.

    The uniforms, one for each token, are arguments: no port needs the family's generator.
    """

    @property
    def files(self) -> Sequence[Path]:
        """The model files that the backend runs; the report lists them with their SHA-256."""
        ...

    def loaded_weights(self) -> Mapping[str, Mapping[str, Float32]]:
        """The tensors in use by their names in the checkpoint.

        The keys are "language_model" and "decoder".
        """
        ...

    def default_options(self) -> SamplingOptions:
        """The sampling options that apply where a caller gives none."""
        ...

    def normalize(self, text: str) -> str: ...

    def split(self, text: str) -> list[str]:
        """The sentences of normalised text."""
        ...

    def tokenize(self, model: Path) -> Any:
        """A tokenizer whose `prompt(sentence)` returns the ids of a prompt."""
        ...

    def sample(
        self,
        logits: Float32,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        """The next id, from logits (V,) and the ids so far; `uniform` is None at temperature 0."""
        ...

    def decode_audio(self, hidden: Float32, lengths: Int64) -> Float32:
        """Samples (B, N) of hidden states (B, T, H), of which `lengths` (B,) are real.

        N is the longest row's number of samples; shorter rows end in zeros.
        """
        ...

    def istft(
        self, spectrum: Float32, config: IstftConfig, layout: str, *, length: int | None = None
    ) -> Float32:
        """Samples (B, N) of a spectrum in one of the declared layouts.

        Raises:
            ValueError: a spectrum of another number of bins.
        """
        ...

    def is_stuck(self, hidden: Float32, distance: float) -> bool:
        """Whether an utterance of hidden states (T, H) must be generated again."""
        ...

    def synthesize(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
    ) -> SynthesisResult:
        """The utterance of one prompt's ids."""
        ...

    def synthesize_batch(
        self,
        ids: Sequence[Sequence[int]],
        options: SamplingOptions,
        uniforms: Sequence[Sequence[float]],
        max_new_tokens: int,
    ) -> list[SynthesisResult]:
        """The utterances of several prompts, each with its own uniforms."""
        ...

    def stream(
        self,
        ids: Sequence[int],
        options: SamplingOptions,
        uniforms: Sequence[float],
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[Float32]:
        """The samples of the same utterance in chunks of about `chunk_size` tokens."""
        ...

    def wav(self, samples: Float32, sample_rate: int) -> bytes:
        """The bytes of a WAV file: mono, 16 bits."""
        ...
