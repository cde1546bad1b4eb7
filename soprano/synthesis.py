"""Text -> audio: `SopranoTTS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TypedDict, TypeVar, Unpack, cast

import numpy as np

from soprano.audio import Audio, AudioChunk, Samples, Sentence
from soprano.audio_files import container_of, open_writer, require_container
from soprano.backends import Backend, Float32, Int64, OptionalStages, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import GenerationOptions, ModelConfig, SamplingOptions
from soprano.draft_models import open_draft
from soprano.errors import BackendError
from soprano.generate import Prompt, Token, generate
from soprano.hallucination import is_stuck
from soprano.memory_pages import copy_to_own_pages
from soprano.sampling import sample, uniforms
from soprano.stages import Stages, with_own_stages
from soprano.stft import istft
from soprano.streaming import stream
from soprano.text import normalizer, split_sentences
from soprano.tokenizer import Tokenizer, load_tokenizer

DEFAULT_MODEL = "nano"
DEFAULT_BATCH = 8

Progress = Callable[[int, int], None]  # sentences done, sentences in all
T = TypeVar("T")


class Options(TypedDict, total=False):
    """The options of `infer`, `infer_batch` and `infer_stream`; defaults come from the model."""

    seed: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int
    retries: int
    retry_temperature: float | None
    hallucination_distance: float
    keep_markup: bool  # read Markdown, HTML and SSML as text
    paragraphs: bool  # only a blank line ends a sentence


TEXT_OPTIONS = ("keep_markup", "paragraphs")


def shared_stages(
    backend: Backend,
    model: str | Path,
    load_tokenizer: Callable[[Path], Tokenizer] = load_tokenizer,
) -> Stages:
    """This package's stages around a backend's two networks."""
    folder = ModelFolder.open(model)
    tokenizer = load_tokenizer(folder.path)
    tokenizer.require_match(backend.config.language_model)
    able, optional = backend.capabilities, cast(OptionalStages, backend)
    return Stages(
        normalize=normalizer(folder.normalizer),
        split=split_sentences,
        tokenize=tokenizer.prompt,
        uniforms=uniforms,
        sample=sample,
        generate=generate,
        language_model=backend,
        decode=backend.decode if able.spectrum else _without_spectrum,
        istft=istft,
        is_stuck=is_stuck,
        stream=stream,
        write=open_writer,
        decode_audio=optional.decode_audio if able.decoder and not able.spectrum else None,
    )


def _without_spectrum(hidden: Float32, lengths: Int64) -> Float32:
    raise BackendError("the backend's decoder gives samples and no spectrum: it cannot stream")


@dataclass(frozen=True)
class Utterance:
    """One sentence of one text."""

    text: int  # index of its text
    number: int  # index within its text
    sentence: str


@dataclass(frozen=True)
class Synthesized:
    """One utterance with its audio; `seconds` is the processing time of each stage."""

    utterance: Utterance
    ids: list[int]
    finish: str
    samples: Samples
    seconds: dict[str, float]


class SopranoTTS:
    """A voice: the pipeline from text to audio for one model on one backend.

    Any number of threads may use one object at the same time. A process that is forked afterwards
    must open its own: there, this object raises `BackendError`. A process started with the method
    `spawn` opens its own in any case.

    Args:
        model: an embedded model's name, a checkpoint folder, a bundle folder, or the name of a
            model on the Hugging Face hub, `org/name[@revision]`.
        backend: "auto" (the first installed of onnx_cpu, openvino_cpu, pytorch) or a name.
        precision: "fp32", or the precision class of an exported bundle.
        threads: number of threads of the runtime. None: the runtime's default.
        stages: the pipeline to use in place of this package's stages on a backend of that name.
        draft: a precision class ("int8" or "int4") or a bundle folder: a faster copy of the
            language model, which changes no id (`docs/synthesis.md`). None: the draft that the
            model folder contains, if it does; "none": no draft.
        verify_weights: see `soprano.open_backend`.

    Raises:
        ModelError, MissingExtraError, BackendError: see `soprano.open_backend`.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        *,
        stages: Stages | None = None,
        draft: str | Path | None = None,
        verify_weights: bool = True,
    ) -> None:
        folder = ModelFolder.open(model)
        self.model = folder.path
        self.defaults: GenerationOptions = folder.generation_defaults
        if stages is None:
            opened = open_backend(
                backend, folder.path, precision, threads, verify_weights=verify_weights
            )
            shared = shared_stages(opened, folder.path)
            stages = with_own_stages(shared, opened, folder.path)
            own_draft = open_draft(draft, folder, opened, backend, threads)
            stages = replace(stages, draft=own_draft)
        elif draft is not None:
            raise ValueError("draft is a part of the stages that are given")
        self.stages = stages

    @property
    def backend(self) -> Backend:
        return self.stages.language_model

    @property
    def config(self) -> ModelConfig:
        return self.stages.config

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.sample_rate

    def infer(
        self,
        text: str,
        out_path: str | Path | None = None,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Audio:
        """Synthesise a text of any length.

        Args:
            text: the text; it is normalised and split into sentences.
            out_path: a .wav or .flac file to write.
            progress: called after each sentence with those done and those in all.
            options: see `Options`; those not given come from the model's generation_config.json.

        Raises:
            ValueError: the text holds nothing that can be spoken, or an option is out of range.
        """
        if out_path is not None:
            require_container(container_of(out_path))
        audio = self.infer_batch([text], progress=progress, **options)[0]
        if out_path is not None:
            audio.save(out_path, write=self.stages.write)
        return audio

    def infer_batch(
        self,
        texts: Sequence[str],
        out_dir: str | Path | None = None,
        *,
        batch_size: int = DEFAULT_BATCH,
        container: str = "wav",
        on_empty: str = "error",
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> list[Audio]:
        """Synthesise several texts, `batch_size` sentences at a time.

        Args:
            texts: the texts. Each has the audio that it has alone.
            out_dir: a folder for 0.wav, 1.wav, ...; each file is written when its text is done.
            batch_size: number of sentences in one batch of the language model.
            container: of the files, "wav" or "flac".
            on_empty: "skip" gives a text that holds nothing to say an `Audio` without sentences
                and no file, "error" rejects it.
            progress: called after each sentence with those done and those in all.
            options: see `Options`.

        Raises:
            ValueError: a text holds nothing that can be spoken; the message names its position.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, got one string")
        if on_empty not in ("error", "skip"):
            raise ValueError(f"on_empty must be 'error' or 'skip', got {on_empty!r}")
        settings = self._settings(options)
        by_text = [self._utterances(index, text, options) for index, text in enumerate(texts)]
        empty = [index for index, own in enumerate(by_text) if not own]
        if empty and on_empty == "error":
            raise ValueError(_nothing_to_say(empty[0], texts))
        require_container(container)
        if out_dir is not None:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
        utterances = [utterance for own in by_text for utterance in own]
        results: list[list[Synthesized]] = [[] for _ in by_text]
        audios = {index: self._joined([]) for index in empty}
        for done, result in enumerate(self._synthesize(utterances, settings, batch_size), start=1):
            text = result.utterance.text
            results[text].append(result)
            if len(results[text]) == len(by_text[text]):
                audios[text] = self._joined(results[text])
                if out_dir is not None:
                    path = Path(out_dir) / f"{text}.{container}"
                    audios[text].save(path, container, write=self.stages.write)
            if progress:
                progress(done, len(utterances))
        return [audios[text] for text in range(len(by_text))]

    def infer_stream(
        self,
        text: str,
        *,
        chunk_size: int = 1,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Iterator[AudioChunk]:
        """Synthesise a text in chunks. The chunks joined are the audio of `infer`.

        A stream may be closed or dropped at any time.

        Args:
            text: the text.
            chunk_size: audio tokens per chunk, at least 1.
            progress: called before each sentence's last chunk with those done and those in all.
            options: see `Options`; `retries` must be 0, because chunks cannot be withdrawn.
        """
        settings = self._settings(options)
        if settings.retries:
            raise ValueError("retries must be 0 for a stream")
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        utterances = self._utterances(0, text, options)
        if not utterances:
            raise ValueError(_nothing_to_say(0, [text]))
        return self._chunks(utterances, settings, chunk_size, progress)

    def _chunks(
        self,
        utterances: list[Utterance],
        settings: GenerationOptions,
        chunk_size: int,
        progress: Progress | None,
    ) -> Iterator[AudioChunk]:
        stages = self.stages
        for done, utterance in enumerate(utterances, start=1):
            tokens = stages.generate(stages, [self._prompt(utterance, settings, 0)])
            for samples, finish in stages.stream(stages, tokens, chunk_size):
                if finish and progress:
                    progress(done, len(utterances))
                yield AudioChunk(self._finite(samples), self.sample_rate, utterance.number, finish)

    def _settings(self, options: Options) -> GenerationOptions:
        names = SamplingOptions.__dataclass_fields__
        sampling = {name: value for name, value in options.items() if name in names}
        known = {*names, *TEXT_OPTIONS}
        rest = {name: value for name, value in options.items() if name not in known}
        if unknown := sorted(set(rest) - set(GenerationOptions.__dataclass_fields__)):
            raise TypeError(f"unknown option {unknown[0]!r}")
        merged = replace(self.defaults.sampling, **sampling)  # type: ignore[arg-type]
        return replace(self.defaults, sampling=merged, **rest)  # type: ignore[arg-type]

    def _utterances(self, index: int, text: str, options: Options) -> list[Utterance]:
        """The sentences of a text; none if it holds nothing to say."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        own = {name: value for name, value in options.items() if name in TEXT_OPTIONS}
        sentences = self.stages.split(self.stages.normalize(text, **own))
        return [Utterance(index, number, sentence) for number, sentence in enumerate(sentences)]

    def _prompt(self, utterance: Utterance, settings: GenerationOptions, attempt: int) -> Prompt:
        return Prompt(
            self.stages.tokenize(utterance.sentence),
            self.stages.uniforms(settings.seed, utterance.number, attempt),
            settings.attempt(attempt),
            settings.max_new_tokens,
        )

    def _synthesize(
        self, utterances: list[Utterance], settings: GenerationOptions, batch_size: int
    ) -> Iterator[Synthesized]:
        """Each utterance with its audio, in the order in which they are completed."""
        spent = dict.fromkeys(utterances, 0.0)  # seconds of the language model, in all attempts
        for attempt in range(settings.retries + 1):
            stuck = []
            for utterance, tokens, more in self._generate(
                utterances, settings, attempt, batch_size
            ):
                spent[utterance] += more
                if attempt < settings.retries and self._retry(tokens, settings, attempt):
                    stuck.append(utterance)
                else:
                    yield self._vocode(utterance, tokens, {"language model": spent[utterance]})
            utterances = stuck

    def _generate(
        self, utterances: list[Utterance], settings: GenerationOptions, attempt: int, size: int
    ) -> Iterator[tuple[Utterance, list[Token], float]]:
        """Each utterance with its tokens and their seconds, as soon as it is complete."""
        prompts = [self._prompt(utterance, settings, attempt) for utterance in utterances]
        generated: list[list[Token]] = [[] for _ in utterances]
        spent = [0.0] * len(utterances)
        tokens = self.stages.generate(self.stages, prompts, batch_size=size)
        for token, seconds in _timed_items(tokens):
            spent[token.prompt] += seconds
            generated[token.prompt].append(token)
            if token.finish is not None:
                yield utterances[token.prompt], generated[token.prompt], spent[token.prompt]
                generated[token.prompt] = []  # hidden states must not outlive their utterance

    def _retry(self, tokens: list[Token], settings: GenerationOptions, attempt: int) -> bool:
        if settings.attempt(attempt + 1).temperature == 0:
            return False  # a greedy attempt would repeat itself
        hidden = _hidden(tokens)
        return len(hidden) > 1 and self.stages.is_stuck(hidden, settings.hallucination_distance)

    def _vocode(
        self, utterance: Utterance, tokens: list[Token], seconds: dict[str, float]
    ) -> Synthesized:
        own = self.stages
        timed = replace(
            own,
            decode=_timed(own.decode, seconds, "decoder"),
            istft=_timed(own.istft, seconds, "istft"),
            decode_audio=own.decode_audio and _timed(own.decode_audio, seconds, "decoder"),
        )
        samples = self._finite(copy_to_own_pages(timed.vocode(_hidden(tokens))))
        ids = [token.id for token in tokens if token.id is not None]
        finish = tokens[-1].finish or ""
        tokens.clear()  # the generator that filled the list may still hold it
        return Synthesized(utterance, ids, finish, samples, seconds)

    def _finite(self, samples: Samples) -> Samples:
        """The samples; an error if one is NaN or Inf."""
        if not np.isfinite(samples).all():
            raise BackendError(
                f"{self.model}: samples must be finite, backend {self.backend.name} gave NaN or Inf"
            )
        return samples

    def _joined(self, results: list[Synthesized]) -> Audio:
        """The audio of one text; empties the list, so that no samples are held twice."""
        results.sort(key=lambda result: result.utterance.number)
        samples = np.empty(sum(len(result.samples) for result in results), np.float32)
        sentences = []
        start = 0
        results.reverse()
        while results:
            result = results.pop()
            stop = start + len(result.samples)
            samples[start:stop] = result.samples
            sentence = result.utterance.sentence
            sentences.append(
                Sentence(sentence, result.ids, result.finish, start, stop, result.seconds)
            )
            start = stop
        return Audio(samples, self.sample_rate, sentences)


def _nothing_to_say(index: int, texts: Sequence[str]) -> str:
    name = "text" if len(texts) == 1 else f"text {index}"
    return f"{name} holds nothing to say: {texts[index][:40]!r}"


def _hidden(tokens: list[Token]) -> Samples:
    """The hidden states (T, H) of an utterance's audio tokens."""
    states = [token.hidden for token in tokens if token.hidden is not None]
    return np.stack(states) if states else np.zeros((0, 0), np.float32)


def _timed_items(items: Iterator[T]) -> Iterator[tuple[T, float]]:
    """Items with the seconds that each took to arrive."""
    start = perf_counter()
    for item in items:
        yield item, perf_counter() - start
        start = perf_counter()


def _timed(call: Callable[..., T], seconds: dict[str, float], stage: str) -> Callable[..., T]:
    """The same callable, which adds its time to `seconds[stage]`."""

    def timed(*args: object, **options: object) -> T:
        start = perf_counter()
        result = call(*args, **options)
        seconds[stage] = seconds.get(stage, 0.0) + perf_counter() - start
        return result

    return timed
