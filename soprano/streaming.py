"""Hidden states that arrive one by one -> samples, equal to decoding them all at once.

A spectral frame depends on a few tokens to either side.
Each window of hidden states carries that context, and only the frames that the window's edges
cannot reach are kept, so windows join without a seam.
"""

from __future__ import annotations

import numpy as np

from soprano.audio import Samples
from soprano.backends import Backend, Float32
from soprano.stft import StreamingIstft


class StreamingDecoder:
    """Decodes one utterance as its hidden states (H,) come."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._config = backend.config.decoder
        self._istft = StreamingIstft(self._config.istft)
        self._hidden: list[Float32] = []
        self._first = 0  # the token index of the first state still held
        self._frames = 0  # spectral frames given to the transform
        self._samples = 0  # samples given to the caller

    @property
    def ready(self) -> int:
        """Samples that the states at hand would give now."""
        return self._istft.settled(self._settled_frames(last=False)) - self._samples

    def add(self, hidden: Float32) -> None:
        self._hidden.append(hidden)

    def flush(self, *, last: bool = False) -> Samples:
        """Samples (N,) that no later token can change; with `last`, all that remain."""
        stop = self._settled_frames(last)
        spectrum = np.zeros((1, self._config.bins, 0, 2), np.float32)
        if stop > self._frames:
            window = np.stack(self._hidden)[None]  # (1, T, H)
            spectrum = self._backend.decode(window, np.array([window.shape[1]]))
            offset = self._first * self._config.frames_per_token
            spectrum = spectrum[:, :, self._frames - offset : stop - offset]
            self._frames = stop
        samples = self._istft.push(spectrum, last=last).astype(np.float32)
        self._samples += len(samples)
        self._forget()
        return samples

    def _settled_frames(self, last: bool) -> int:
        tokens = self._first + len(self._hidden)
        frames = self._config.frames(tokens)
        if last:
            return frames
        return max(frames - self._config.receptive_frames, self._frames)

    def _forget(self) -> None:
        """Drop the states that no frame to come depends on."""
        earliest = max(self._frames - self._config.receptive_frames, 0)
        # The window's own edge must lie a receptive field before the next frame.
        keep_from = earliest // self._config.frames_per_token
        drop = max(keep_from - self._first, 0)
        self._hidden = self._hidden[drop:]
        self._first += drop
