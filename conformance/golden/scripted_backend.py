"""A backend that says what a script tells it, so that every id and state is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from soprano.backends import Attestation, Capabilities, Float32, Int64, Output
from soprano.backends.base import State
from soprano.config import DecoderConfig, LanguageModelConfig, ModelConfig

Ids = tuple[int, ...]
Speak = Callable[[Ids], Sequence[float]]  # the ids a row has read -> its logits

STOP = 3
VOCABULARY = 16
CONFIG = ModelConfig(
    LanguageModelConfig(VOCABULARY, 4, 4, 1, 1, 1, 4, 1e-6, 10000.0, True, STOP),
    DecoderConfig(4, 4, 4, 1, 1, 3, 4, 64, 16, 64, 16000),
)


def trace(ids: Ids) -> Float32:
    """The hidden state (H,) after exactly these ids: no other ids up to some thousands have it."""
    checksum = sum(place * number for place, number in enumerate(ids, start=1)) % 65521
    return np.array([len(ids), ids[0], ids[-1], checksum], np.float32)


def reciting(answers: Mapping[Ids, Sequence[int]]) -> Speak:
    """Each prompt is answered by its ids, then by `[STOP]`; another reading is a mistake."""

    def speak(ids: Ids) -> list[float]:
        prompt = next(prompt for prompt in answers if ids[: len(prompt)] == prompt)
        answer, said = [*answers[prompt], STOP], list(ids[len(prompt) :])
        assert said == answer[: len(said)], f"{prompt} was fed {said}, it had said {answer}"
        logits = [0.0] * VOCABULARY
        logits[answer[len(said)]] = 10.0
        return logits

    return speak


class ScriptedBackend:
    """The protocol of `soprano.backends` over a script; a row's cache is the ids it has read."""

    name = "scripted"
    config = CONFIG

    def __init__(self, speak: Speak, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.rows: list[int] = []  # of each call, in order
        self._speak = speak

    def attest(self) -> Attestation:
        return {}

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        assert ids.dtype == lengths.dtype == np.int64
        assert ids.ndim == 2
        assert lengths.shape == ids.shape[:1]
        assert (lengths >= 1).all()
        assert lengths.max() == ids.shape[1]
        rows = zip(ids, lengths, strict=True)
        return self._output([tuple(row[:length].tolist()) for row, length in rows])

    def step(self, ids: Int64, state: State) -> Output:
        assert ids.dtype == np.int64
        cache = state.consume().cache
        rows = zip(cache, ids.tolist(), strict=True)
        return self._output([(*read, number) for read, number in rows])

    def fork(self, state: State) -> State:
        assert not state.consumed
        assert self.capabilities.fork
        return _state(state.cache)

    def select(self, state: State, rows: Sequence[int]) -> State:
        assert self.capabilities.select
        cache = state.consume().cache
        return _state([cache[row] for row in rows])

    def join(self, first: State, second: State) -> State:
        assert self.capabilities.join
        return _state(first.consume().cache + second.consume().cache)

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        raise AssertionError("the script has no sound")

    def close(self) -> None:
        pass

    def _output(self, cache: list[Ids]) -> Output:
        assert self.capabilities.batch or len(cache) == 1
        self.rows.append(len(cache))
        logits = np.array([self._speak(ids) for ids in cache], np.float32)
        hidden = np.stack([trace(ids) for ids in cache])
        for values in (logits, hidden):
            values.flags.writeable = False  # whoever writes into them is found out
        return Output(logits, hidden, _state(cache))


def _state(cache: list[Ids]) -> State:
    lengths = np.array([len(ids) for ids in cache], np.int64)
    return State(list(cache), lengths)
