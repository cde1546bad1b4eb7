"""Faults of streaming: windows of hidden states are decoded one by one and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import STREAMING, SYNTHESIS, fault
from conformance.faults.plant import set_defaults, with_stages
from conformance.subject import Subject
from soprano import config
from soprano.audio import AudioChunk
from soprano.generate import Token
from soprano.stages import Stages
from soprano.streaming import StreamingDecoder, stream
from soprano.synthesis import SopranoTTS

Chunks = Iterator[tuple[Any, str | None]]


def streamed_by(make: Callable[[Stages], Any]) -> Callable[..., Chunks]:
    """A streaming stage around another decoder than `StreamingDecoder`."""

    def stream(stages: Stages, tokens: Iterable[Token], chunk_size: int) -> Chunks:
        decoder = make(stages)
        wanted = chunk_size * stages.config.decoder.samples_per_token
        finish = None
        for token in tokens:
            finish = token.finish
            if token.hidden is not None:
                decoder.add(token.hidden)
            if finish is None and decoder.ready >= wanted:
                yield decoder.flush(), None
        yield decoder.flush(last=True), finish

    return stream


def with_chunks_changed(subject: Subject, change: Callable[[Any], Any]) -> Subject:
    """Change the samples of every chunk."""

    def faulty(stages: Stages, tokens: Iterable[Token], chunk_size: int) -> Chunks:
        for samples, finish in stream(stages, tokens, chunk_size):
            yield change(samples), finish

    return with_stages(subject, stream=faulty)


class WindowedDecoder:
    """A stream as ports write it: each window is decoded to samples, and its middle is kept.

    With enough tokens of context on both sides it equals the offline audio.
    """

    left = right = 4  # tokens of context

    def __init__(self, stages: Stages) -> None:
        self.stages, self.config = stages, stages.config.decoder
        self.hidden: list[Any] = []
        self.given = 0  # tokens whose samples were returned

    @property
    def ready(self) -> int:
        return max(self.stop(last=False) - self.given, 0) * self.config.samples_per_token

    def add(self, hidden: Any) -> None:
        self.hidden.append(hidden)

    def stop(self, last: bool) -> int:
        return len(self.hidden) - 1 - (0 if last else self.right)

    def flush(self, *, last: bool = False) -> Any:
        stop = self.stop(last)
        if stop <= self.given:
            return np.zeros(0, np.float32)
        begin = self.begin()
        window = np.stack(self.hidden[begin:][: stop + 1 + self.right - max(begin, 0)])
        kept = self.cut(self.stages.vocode(window), self.given - begin, stop - begin)
        self.given = stop
        return kept

    def begin(self) -> int:
        """The window's first token."""
        return max(self.given - self.left, 0)

    def cut(self, samples: Any, first: int, stop: int) -> Any:
        """The samples of the window's tokens from `first` to before `stop`."""
        size = self.config.samples_per_token
        return samples[first * size : stop * size]


@fault(STREAMING, "ST-01", public=True)
def chunk_loses_its_last_token(subject: Subject) -> Subject:
    """A window of W tokens has W - 1 tokens of samples; a slice that assumes W loses one."""

    class Losing(WindowedDecoder):
        def cut(self, samples: Any, first: int, stop: int) -> Any:
            return super().cut(samples, first, stop - 1)

    return with_stages(subject, stream=streamed_by(Losing))


@fault(STREAMING, "ST-01", hard=True, public=True)
def negative_start_counts_from_the_end(subject: Subject) -> Subject:
    """A window that would begin before the first token gets a negative index instead."""

    class Negative(WindowedDecoder):
        def begin(self) -> int:
            return self.given - self.left

        def cut(self, samples: Any, first: int, stop: int) -> Any:
            return samples[: (stop - self.given) * self.config.samples_per_token]

    return with_stages(subject, stream=streamed_by(Negative))


@fault(STREAMING, "ST-01", public=True)
def no_context_on_the_left(subject: Subject) -> Subject:
    """Each window begins with the first token whose samples are wanted."""
    bare = type("Bare", (WindowedDecoder,), {"left": 0})
    return with_stages(subject, stream=streamed_by(bare))


@fault(STREAMING, "ST-04", hard=True, public=True)
def context_too_short(subject: Subject) -> Subject:
    """Windows have two tokens of context on both sides, and the receptive field needs three."""
    short = type("Short", (WindowedDecoder,), {"left": 2, "right": 2})
    return with_stages(subject, stream=streamed_by(short))


@fault(SYNTHESIS, "GE-14", blame=("GE", "SY"), public=True)
def other_limits(subject: Subject) -> Subject:
    """The service allows 1,200 new tokens, and the family's limit is 512."""
    config.MAX_NEW_TOKENS = 1200
    set_defaults(config.GenerationOptions, max_new_tokens=1200)
    return subject


@fault(STREAMING, "ST-01", hard=True)
def tail_of_the_stream_lost(subject: Subject) -> Subject:
    """States that wait for their context are not decoded when [STOP] comes."""

    class Losing(StreamingDecoder):
        def flush(self, *, last: bool = False) -> Any:
            return super().flush(last=False)

    return with_stages(subject, stream=streamed_by(Losing))


@fault(STREAMING, "ST-01", hard=True)
def second_sentence_keeps_the_first_ones_window(subject: Subject) -> Subject:
    """One decoder serves all sentences, so that a sentence begins with the end of the last one."""

    class OneDecoder(SopranoTTS):
        def infer_stream(self, text: str, **options: Any) -> Iterator[AudioChunk]:
            decoder = WindowedDecoder(self.stages)
            stages = replace(self.stages, stream=streamed_by(lambda stages: decoder))
            return SopranoTTS(self.model, stages=stages).infer_stream(text, **options)

    return replace(subject, voice=lambda model, stages: OneDecoder(model, stages=stages))


@fault(STREAMING, "ST-04", hard=True)
def chunks_wait_for_the_whole(subject: Subject) -> Subject:
    """No samples are ready before the last token: the stream is one chunk."""

    class Waiting(StreamingDecoder):
        @property
        def ready(self) -> int:
            return 0

    return with_stages(subject, stream=streamed_by(Waiting))


@fault(STREAMING, "ST-01", hard=True)
def old_chunks_overwritten(subject: Subject) -> Subject:
    """Every chunk is a view of one buffer, which the next chunk overwrites."""
    buffer = np.zeros(1 << 20, np.float32)

    def buffered(samples: Any) -> Any:
        buffer[: len(samples)] = samples
        return buffer[: len(samples)]

    return with_chunks_changed(subject, buffered)


@fault(STREAMING, "ST-01", with_chunks_changed, hard=True)
def seam_faded(samples: Any) -> Any:
    """Each chunk is faded in over eight samples."""
    ramp = np.ones(len(samples), np.float32)
    ramp[:8] = np.linspace(0, 1, 8)[: len(samples)]
    return samples * ramp


@fault(STREAMING, "ST-01", hard=True)
def stream_through_16_bits(subject: Subject) -> Subject:
    """Chunks are rounded to 16 bits on their way to the caller."""
    return with_chunks_changed(
        subject, lambda samples: (np.rint(samples * 32767) / 32767).astype(np.float32)
    )


@fault(SYNTHESIS, "SY-12", hard=True, blame=("SY",))
def another_rate_than_the_models(subject: Subject) -> Subject:
    """Audio has a sample rate of 32,000 Hz, whatever the model's."""

    class FixedRate(SopranoTTS):
        @property
        def sample_rate(self) -> int:
            return 32000

    return replace(subject, voice=lambda model, stages: FixedRate(model, stages=stages))
