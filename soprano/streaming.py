"""Tokens as they come -> samples, equal to decoding the whole utterance at once.

A spectral frame depends on a few tokens to either side. Each window of hidden states carries this
context, and only the frames that the window's edges cannot reach are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from soprano.audio import Samples
from soprano.backends import Float32
from soprano.generate import Token
from soprano.stages import Stages
from soprano.stft import StreamingIstft


def stream(
    stages: Stages, tokens: Iterable[Token], chunk_size: int
) -> Iterator[tuple[Samples, str | None]]:
    """Chunks of samples (N,) of one utterance; the last one has the finish reason.

    A chunk is handed out as soon as `chunk_size` audio tokens' worth of samples is final.
    """
    decoder = StreamingDecoder(stages)
    wanted = chunk_size * stages.config.decoder.samples_per_token
    finish = None
    for token in tokens:
        finish = token.finish
        if token.hidden is not None:
            decoder.add(token.hidden)
        if finish is None and decoder.ready >= wanted:
            yield decoder.flush(), None
    yield decoder.flush(last=True), finish


class StreamingDecoder:
    """Decodes one utterance while its hidden states (H,) are generated."""

    def __init__(self, stages: Stages) -> None:
        self._decode = stages.decode
        self._config = stages.config.decoder
        self._istft = StreamingIstft(self._config.istft)
        self._hidden: list[Float32] = []
        self._first = 0  # the token index of the first state still held
        self._frames = 0  # spectral frames passed to the ISTFT
        self._samples = 0  # samples handed out

    @property
    def ready(self) -> int:
        """The number of samples that `flush` would return now."""
        return self._istft.settled(self._settled_frames(last=False)) - self._samples

    def add(self, hidden: Float32) -> None:
        self._hidden.append(hidden)

    def flush(self, *, last: bool = False) -> Samples:
        """Samples (N,) that no later token can change; with `last`, all that remain."""
        stop = self._settled_frames(last)
        spectrum = np.zeros((1, self._config.bins, 0, 2), np.float32)
        if stop > self._frames:
            window = np.stack(self._hidden)[None]  # (1, T, H)
            spectrum = self._decode(window, np.array([window.shape[1]]))
            offset = self._first * self._config.frames_per_token
            spectrum = spectrum[:, :, self._frames - offset : stop - offset]
            self._frames = stop
        samples = self._istft.push(spectrum, last=last).astype(np.float32)
        self._samples += len(samples)
        self._discard()
        return samples

    def _settled_frames(self, last: bool) -> int:
        tokens = self._first + len(self._hidden)
        frames = self._config.frames(tokens)
        if last:
            return frames
        return max(frames - self._config.receptive_frames, self._frames)

    def _discard(self) -> None:
        """Drop the states that no later frame depends on."""
        earliest = max(self._frames - self._config.receptive_frames, 0)
        # The window's first state must lie a receptive field before the next frame.
        keep_from = earliest // self._config.frames_per_token
        drop = max(keep_from - self._first, 0)
        self._hidden = self._hidden[drop:]
        self._first += drop
