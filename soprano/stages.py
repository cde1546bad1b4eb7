"""The pipeline from text to audio as a value: each field is one stage, in pipeline order.

`replace(stages, istft=...)` replaces a stage. A port's own stage, a wrong convention and a planted
fault are all such replacements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from soprano.backends import Backend, Float32
from soprano.config import IstftConfig, ModelConfig, SamplingOptions

if TYPE_CHECKING:
    from soprano.audio_files import Writer
    from soprano.generate import Prompt, Token


class Sample(Protocol):
    def __call__(
        self,
        logits: npt.ArrayLike,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
        /,
    ) -> int: ...


class Generate(Protocol):
    def __call__(
        self, stages: Stages, prompts: Iterable[Prompt], /, *, batch_size: int = 1
    ) -> Iterator[Token]: ...


class Istft(Protocol):
    def __call__(
        self,
        spectrum: Float32,
        config: IstftConfig,
        layout: str = "bft2",
        /,
        *,
        length: int | None = None,
    ) -> npt.NDArray[np.floating]: ...


class Write(Protocol):
    def __call__(
        self, file: BinaryIO, container: str, sample_rate: int, count: int | None = None, /
    ) -> Writer: ...


@dataclass(frozen=True)
class Stages:
    """Every stage of one model. Arrays have the shapes of `soprano.backends.Backend`."""

    normalize: Callable[..., str]  # text and, by name, `soprano.synthesis.TEXT_OPTIONS`
    split: Callable[[str], list[str]]  # normalised text -> sentences
    tokenize: Callable[[str], list[int]]  # sentence -> prompt ids
    uniforms: Callable[[int, int, int], Iterator[float]]  # seed, sentence, attempt -> draws
    sample: Sample  # logits (V,), history, options, uniform -> id
    generate: Generate  # prompts -> tokens with their hidden states
    language_model: Backend  # `prefill`, `step` and the operations on its KV cache
    decode: Callable[[Float32, npt.NDArray[np.int64]], Float32]  # hidden (B, T, H), lengths (B,)
    istft: Istft  # spectrum (B, F, T', 2) -> samples (B, N)
    is_stuck: Callable[[Float32, float], bool]  # hidden (T, H), L1 distance -> regenerate?
    # Tokens as they come, audio tokens per chunk -> samples (N,), and a finish reason at the end.
    stream: Callable[[Stages, Iterable[Token], int], Iterator[tuple[Float32, str | None]]]
    write: Write  # samples -> bytes of a WAV or FLAC file
    # Hidden (B, T, H), lengths (B,) -> samples (B, N): in place of `decode` and `istft`, of a
    # backend that declares `spectrum=False`.
    decode_audio: Callable[[Float32, npt.NDArray[np.int64]], Float32] | None = None
    draft: Backend | None = None  # a faster language model, for self-speculation

    @property
    def config(self) -> ModelConfig:
        return self.language_model.config

    def vocode(self, hidden: Float32) -> Float32:
        """Samples (N,) of the hidden states (T, H) of one utterance."""
        if not len(hidden):
            return np.zeros(0, np.float32)
        utterance = hidden[None], np.array([len(hidden)])
        samples: Any
        if self.decode_audio is not None:
            samples = self.decode_audio(*utterance)[0]
        else:
            samples = self.istft(self.decode(*utterance), self.config.decoder.istft)[0]
        return np.asarray(samples, np.float32)


# Stages that a backend may replace by a method of the same name.
OWN_STAGES = ("normalize", "split", "tokenize", "sample", "istft", "is_stuck")


def with_own_stages(stages: Stages, backend: object, model: Path) -> Stages:
    """The pipeline with the stages that a backend implements itself; see `OptionalStages`."""
    own = {name: getattr(backend, name) for name in OWN_STAGES if hasattr(backend, name)}
    if "tokenize" in own:
        own["tokenize"] = own["tokenize"](model).prompt
    if "istft" in own:
        own["istft"] = in_layout(own["istft"], stages.language_model.capabilities.layouts[0])
    return replace(stages, **own)


def in_layout(istft: Istft, own: str) -> Istft:
    """An inverse STFT of spectra (B, F, T, 2), by one that takes its own layout."""

    def converted(
        spectrum: Float32,
        config: IstftConfig,
        layout: str = "bft2",
        /,
        *,
        length: int | None = None,
    ) -> npt.NDArray[np.floating]:
        if own == "b2ft":
            spectrum = np.ascontiguousarray(np.moveaxis(spectrum, 3, 1))
        options = {} if length is None else {"length": length}
        return istft(spectrum, config, own, **options)

    return converted
