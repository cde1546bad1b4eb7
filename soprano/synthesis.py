"""Text -> sound: `SopranoTTS`."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from soprano.audio import Audio, AudioChunk, Samples, Sentence
from soprano.audio_files import container_of, require_container
from soprano.backends import Backend, Float32, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import GenerationOptions, ModelConfig, SamplingOptions
from soprano.errors import ModelError
from soprano.generate import Prompt, generate
from soprano.hallucination import looks_stuck
from soprano.sampling import uniforms
from soprano.stft import istft
from soprano.streaming import StreamingDecoder
from soprano.text import sentences
from soprano.tokenizer import Tokenizer

DEFAULT_MODEL = "nano"
DEFAULT_BATCH = 8

Progress = Callable[[int, int], None]  # sentences done, sentences in all


class Options(TypedDict, total=False):
    """What `infer`, `infer_batch` and `infer_stream` accept; defaults come from the model."""

    seed: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int
    retries: int
    retry_temperature: float | None
    hallucination_distance: float


@dataclass
class _Piece:
    """One sentence of one text on its way to sound."""

    text: int  # index of its text
    number: int  # index within its text
    sentence: str
    ids: list[int] = field(default_factory=list)
    hidden: list[Float32] = field(default_factory=list)
    finish: str = ""
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    seconds: dict[str, float] = field(default_factory=dict)


class SopranoTTS:
    """A voice: one model opened on one backend.

    Args:
        model: an embedded model's name, a checkpoint folder or a bundle folder.
        backend: "auto" (the first installed of onnx_cpu, openvino_cpu, pytorch) or a name.
        precision: "fp32", or the class that a bundle was exported in.
        threads: of the runtime; None leaves its default.

    Raises:
        ModelError, MissingExtraError, BackendError: see `soprano.open_backend`.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        folder = ModelFolder.open(model)
        self._speak_through(open_backend(backend, folder.path, precision, threads), folder)

    @classmethod
    def over(cls, backend: Backend, model: str | Path) -> SopranoTTS:
        """The voice of a backend that is already open on a model."""
        voice = cls.__new__(cls)
        voice._speak_through(backend, ModelFolder.open(model))
        return voice

    def _speak_through(self, backend: Backend, folder: ModelFolder) -> None:
        self.backend = backend
        self.model = folder.path
        self.tokenizer = Tokenizer(folder.path / "tokenizer.json")
        self.defaults: GenerationOptions = folder.generation_defaults
        numbers = backend.config.language_model
        if self.tokenizer.stop != numbers.eos_token_id:
            raise ModelError(
                f"{folder.path}: [STOP] is {self.tokenizer.stop} in tokenizer.json, "
                f"eos_token_id is {numbers.eos_token_id} in config.json"
            )
        if self.tokenizer.vocab_size > numbers.vocab_size:
            raise ModelError(
                f"{folder.path}: tokenizer.json has {self.tokenizer.vocab_size} ids, "
                f"config.json says {numbers.vocab_size}"
            )

    @property
    def config(self) -> ModelConfig:
        return self.backend.config

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.config.sample_rate

    def infer(
        self,
        text: str,
        out_path: str | Path | None = None,
        *,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Audio:
        """Speak a text of any length.

        Args:
            text: what to say; it is normalised and split into sentences.
            out_path: where to write a .wav or .flac file, if anywhere.
            progress: called after each sentence with those done and those in all.
            options: see `Options`; those not given come from the model's generation_config.json.

        Raises:
            ValueError: the text holds nothing to say, or an option is out of its range.
        """
        if out_path is not None:
            require_container(container_of(out_path))
        audio = self.infer_batch([text], progress=progress, **options)[0]
        if out_path is not None:
            audio.save(out_path)
        return audio

    def infer_batch(
        self,
        texts: Sequence[str],
        out_dir: str | Path | None = None,
        *,
        batch_size: int = DEFAULT_BATCH,
        container: str = "wav",
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> list[Audio]:
        """Speak several texts, `batch_size` sentences at a time; each sounds as it does alone.

        Args:
            texts: what to say.
            out_dir: where to write 0.wav, 1.wav, ..., if anywhere, each as soon as it is spoken.
            batch_size: sentences that go through the language model together.
            container: of the files, "wav" or "flac".
            progress: called after each sentence with those done and those in all.
            options: see `Options`.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings, got one string")
        settings = self._options(options)
        by_text = [self._pieces(i, text) for i, text in enumerate(texts)]
        pieces = [piece for own in by_text for piece in own]
        missing = [len(own) for own in by_text]
        audios: dict[int, Audio] = {}
        require_container(container)
        if out_dir is not None:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
        for done, piece in enumerate(self._speak(pieces, settings, batch_size), start=1):
            missing[piece.text] -= 1
            if not missing[piece.text]:
                audio = audios[piece.text] = self._audio(by_text[piece.text])
                if out_dir is not None:
                    audio.save(Path(out_dir) / f"{piece.text}.{container}", container)
            if progress:
                progress(done, len(pieces))
        return [audios[i] for i in range(len(by_text))]

    def infer_stream(
        self,
        text: str,
        *,
        chunk_size: int = 1,
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Iterator[AudioChunk]:
        """Speak a text piece by piece; the chunks joined are what `infer` gives.

        A stream may be closed, or simply left, at any time.

        Args:
            text: what to say.
            chunk_size: audio tokens a chunk, at least 1.
            progress: called before each sentence's last chunk with those done and those in all.
            options: see `Options`, without retries: what was heard cannot be taken back.
        """
        settings = self._options(options)
        if settings.retries:
            raise ValueError("retries must be 0 for a stream")
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        return self._stream(self._pieces(0, text), settings, chunk_size, progress)

    def _stream(
        self,
        pieces: list[_Piece],
        settings: GenerationOptions,
        chunk_size: int,
        progress: Progress | None,
    ) -> Iterator[AudioChunk]:
        wanted = chunk_size * self.config.decoder.samples_per_token
        for done, piece in enumerate(pieces, start=1):
            decoder = StreamingDecoder(self.backend)
            finish = None
            for token in generate(self.backend, [self._prompt(piece, settings, 0)]):
                finish = token.finish
                if token.hidden is not None:
                    decoder.add(token.hidden)
                if finish is None and decoder.ready >= wanted:
                    yield AudioChunk(decoder.flush(), self.sample_rate, piece.number)
            if progress:
                progress(done, len(pieces))
            yield AudioChunk(decoder.flush(last=True), self.sample_rate, piece.number, finish)

    def _options(self, options: Options) -> GenerationOptions:
        names = SamplingOptions.__dataclass_fields__
        sampling = {name: value for name, value in options.items() if name in names}
        rest = {name: value for name, value in options.items() if name not in names}
        if unknown := sorted(set(rest) - set(GenerationOptions.__dataclass_fields__)):
            raise TypeError(f"unknown option {unknown[0]!r}")
        drawn = replace(self.defaults.sampling, **sampling)  # type: ignore[arg-type]
        return replace(self.defaults, sampling=drawn, **rest)  # type: ignore[arg-type]

    def _pieces(self, index: int, text: str) -> list[_Piece]:
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        found = sentences(text)
        if not found:
            raise ValueError(f"text holds nothing to say: {text[:40]!r}")
        return [_Piece(index, number, sentence) for number, sentence in enumerate(found)]

    def _prompt(self, piece: _Piece, settings: GenerationOptions, attempt: int) -> Prompt:
        return Prompt(
            self.tokenizer.prompt(piece.sentence),
            uniforms(settings.seed, piece.number, attempt),
            settings.attempt(attempt),
            settings.max_new_tokens,
        )

    def _speak(
        self, pieces: list[_Piece], settings: GenerationOptions, batch_size: int
    ) -> Iterator[_Piece]:
        """Each piece with its samples, in the order in which they are done."""
        for attempt in range(settings.retries + 1):
            stuck = []
            for piece in self._generate(pieces, settings, attempt, batch_size):
                if attempt < settings.retries and self._retry(piece, settings, attempt):
                    piece.ids, piece.hidden = [], []
                    stuck.append(piece)
                else:
                    self._sound(piece)
                    yield piece
            pieces = stuck

    def _generate(
        self, pieces: list[_Piece], settings: GenerationOptions, attempt: int, batch_size: int
    ) -> Iterator[_Piece]:
        """Each piece as its last token comes, with its ids and hidden states."""
        prompts = [self._prompt(piece, settings, attempt) for piece in pieces]
        clock = perf_counter()
        for token in generate(self.backend, prompts, batch_size=batch_size):
            piece = pieces[token.prompt]
            now = perf_counter()
            spent = piece.seconds.get("language model", 0.0)
            piece.seconds["language model"] = spent + now - clock
            if token.id is not None and token.hidden is not None:
                piece.ids.append(token.id)
                piece.hidden.append(token.hidden)
            if token.finish is not None:
                piece.finish = token.finish
                yield piece
            clock = perf_counter()

    def _retry(self, piece: _Piece, settings: GenerationOptions, attempt: int) -> bool:
        if settings.attempt(attempt + 1).temperature == 0:
            return False  # it would say the same again
        return len(piece.hidden) > 1 and looks_stuck(
            np.stack(piece.hidden), settings.hallucination_distance
        )

    def _sound(self, piece: _Piece) -> None:
        """Hidden states -> samples; the states are dropped, so that long texts stay small."""
        if not piece.hidden:
            return
        hidden = np.stack(piece.hidden)[None]  # (1, T, H)
        piece.hidden = []
        start = perf_counter()
        spectrum = self.backend.decode(hidden, np.array([hidden.shape[1]]))
        decoded = perf_counter()
        piece.samples = _in_own_pages(istft(spectrum, self.config.decoder.istft)[0])
        piece.seconds |= {"decoder": decoded - start, "istft": perf_counter() - decoded}

    def _audio(self, pieces: list[_Piece]) -> Audio:
        ends = np.cumsum([0, *(len(piece.samples) for piece in pieces)]).tolist()
        samples = np.empty(ends[-1], np.float32)
        spoken = []
        for piece, start, stop in zip(pieces, ends[:-1], ends[1:], strict=True):
            samples[start:stop] = piece.samples
            piece.samples = samples[:0]  # a long text's sound is not held twice
            spoken.append(
                Sentence(piece.sentence, piece.ids, piece.finish, start, stop, piece.seconds)
            )
        return Audio(samples, self.sample_rate, spoken)


def _in_own_pages(samples: npt.NDArray[np.floating]) -> Samples:
    """A copy in pages that go back to the system once it is dropped.

    What lives on between buffers that come and go would keep the heap around it from shrinking.
    """
    pages = mmap.mmap(-1, max(samples.size * np.dtype(np.float32).itemsize, 1))
    copy = np.frombuffer(pages, np.float32, samples.size)
    copy[:] = samples
    return copy
