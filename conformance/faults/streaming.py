"""Faults of streaming: windows of hidden states, decoded one by one and joined."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import STREAMING, SYNTHESIS, fault
from conformance.faults.plant import Plant
from soprano import config, synthesis
from soprano.stft import istft
from soprano.streaming import StreamingDecoder
from soprano.synthesis import SopranoTTS


class WindowedDecoder:
    """A stream as ports write it: each window is decoded to samples, and its middle is kept.

    With enough tokens of context on either side it equals the whole.
    """

    left = right = 4  # tokens of context

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._config = backend.config.decoder
        self._hidden: list[Any] = []
        self._given = 0  # tokens whose samples were given

    @property
    def ready(self) -> int:
        return max(self._stop(last=False) - self._given, 0) * self._config.samples_per_token

    def add(self, hidden: Any) -> None:
        self._hidden.append(hidden)

    def _stop(self, last: bool) -> int:
        return len(self._hidden) - 1 - (0 if last else self.right)

    def flush(self, *, last: bool = False) -> Any:
        stop = self._stop(last)
        if stop <= self._given:
            return np.zeros(0, np.float32)
        begin = self.begin()
        window = np.stack(self._hidden[begin:][: stop + 1 + self.right - max(begin, 0)])
        spectrum = self._backend.decode(window[None], np.array([len(window)]))
        samples = istft(spectrum, self._config.istft)[0]
        kept = self.cut(samples, self._given - begin, stop - begin)
        self._given = stop
        return kept.astype(np.float32)

    def begin(self) -> int:
        """The window's first token."""
        return max(self._given - self.left, 0)

    def cut(self, samples: Any, first: int, stop: int) -> Any:
        """The samples of the window's tokens from `first` to before `stop`."""
        size = self._config.samples_per_token
        return samples[first * size : stop * size]


@fault("ST-01", STREAMING)
def chunk_loses_its_last_token(plant: Plant) -> None:
    """A window of W tokens gives W - 1 tokens of samples; the slice that assumes W loses one."""

    class Losing(WindowedDecoder):
        def cut(self, samples: Any, first: int, stop: int) -> Any:
            size = self._config.samples_per_token
            return samples[first * size : (stop - 1) * size]

    plant.replace(StreamingDecoder, Losing)


@fault("ST-02", STREAMING, hard=True)
def negative_start_counts_from_the_end(plant: Plant) -> None:
    """A window that would begin before the first token begins near the last one instead."""

    class Negative(WindowedDecoder):
        def begin(self) -> int:
            return self._given - self.left

        def cut(self, samples: Any, first: int, stop: int) -> Any:
            return samples[: (stop - self._given) * self._config.samples_per_token]

    plant.replace(StreamingDecoder, Negative)


@fault("ST-04", STREAMING)
def no_context_on_the_left(plant: Plant) -> None:
    """Each window begins with the first token whose samples it is to give."""
    plant.replace(StreamingDecoder, type("Bare", (WindowedDecoder,), {"left": 0}))


@fault("ST-05", STREAMING, hard=True)
def context_too_short(plant: Plant) -> None:
    """Two tokens of context on either side, where the receptive field needs three."""
    plant.replace(StreamingDecoder, type("Short", (WindowedDecoder,), {"left": 2, "right": 2}))


@fault("ST-09", SYNTHESIS, blame=("GE", "SY"))
def other_limits(plant: Plant) -> None:
    """The service allows 1,200 new tokens where the family's limit is 512."""
    options = config.GenerationOptions
    plant.set(config, "MAX_NEW_TOKENS", 1200)
    defaults = list(options.__init__.__defaults__)
    defaults[defaults.index(512)] = 1200
    plant.set(options.__init__, "__defaults__", tuple(defaults))


@fault("ST-50", STREAMING, hard=True)
def tail_of_the_stream_lost(plant: Plant) -> None:
    """What waits for context when [STOP] comes is never flushed."""
    flush = StreamingDecoder.flush
    plant.set(StreamingDecoder, "flush", lambda decoder, *, last=False: flush(decoder, last=False))


@fault("ST-51", STREAMING, hard=True)
def second_sentence_keeps_the_first_ones_window(plant: Plant) -> None:
    """The decoder of a stream is made once, so that a sentence begins with the last one's end."""
    stream, inner = SopranoTTS._stream, synthesis.StreamingDecoder

    def faulty(*arguments: Any) -> Any:
        made: list[Any] = []

        def once(backend: Any) -> Any:
            made[:] = made or [WindowedDecoder(backend)]
            return made[0]

        plant.set(synthesis, "StreamingDecoder", once)
        try:
            yield from stream(*arguments)
        finally:
            plant.set(synthesis, "StreamingDecoder", inner)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("ST-52", STREAMING, hard=True)
def chunks_wait_for_the_whole(plant: Plant) -> None:
    """Nothing is ready before the last token: the stream is the offline audio in one piece."""
    plant.set(StreamingDecoder, "ready", property(lambda decoder: 0))


@fault("ST-53", STREAMING, hard=True)
def old_chunks_overwritten(plant: Plant) -> None:
    """Every chunk is a view of one buffer that the next chunk fills."""
    flush = StreamingDecoder.flush
    buffer = np.zeros(1 << 20, np.float32)

    def faulty(decoder: Any, *, last: bool = False) -> Any:
        samples = flush(decoder, last=last)
        buffer[: len(samples)] = samples
        return buffer[: len(samples)]

    plant.set(StreamingDecoder, "flush", faulty)


@fault("ST-54", STREAMING, hard=True)
def seam_faded(plant: Plant) -> None:
    """Chunks are faded in over eight samples to hide seams that are not there."""
    flush = StreamingDecoder.flush
    ramp = np.linspace(0, 1, 8, dtype=np.float32)

    def faulty(decoder: Any, *, last: bool = False) -> Any:
        samples = flush(decoder, last=last).copy()
        samples[:8] *= ramp[: len(samples)]
        return samples

    plant.set(StreamingDecoder, "flush", faulty)


@fault("SY-50", SYNTHESIS, hard=True, blame=("SY",))
def another_rate_than_the_models(plant: Plant) -> None:
    """Audio says 32,000 samples a second, whatever the model was trained at."""
    plant.set(SopranoTTS, "sample_rate", property(lambda voice: 32000))
