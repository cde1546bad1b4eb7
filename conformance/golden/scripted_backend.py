"""A backend without networks whose logits are scripted, so that every id and state is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from soprano.backends import Attestation, Capabilities, Float32, Int64, Output
from soprano.backends.base import State
from soprano.backends.protocol import Verified
from soprano.config import DecoderConfig, LanguageModelConfig, ModelConfig

Ids = tuple[int, ...]
Script = Callable[[Ids], Sequence[float]]  # all ids of a row so far -> its logits

STOP = 3
VOCABULARY = 16
CONFIG = ModelConfig(
    LanguageModelConfig(VOCABULARY, 4, 4, 1, 1, 1, 4, 1e-6, 10000.0, True, STOP),
    DecoderConfig(4, 4, 4, 1, 1, 3, 4, 64, 16, 64, 16000),
)


def hidden_after(ids: Ids) -> Float32:
    """The hidden state (H,) after exactly these ids: sequences of a few thousand ids differ."""
    checksum = sum(position * i for position, i in enumerate(ids, start=1)) % 65521
    return np.array([len(ids), ids[0], ids[-1], checksum], np.float32)


def greedy_script(answers: Mapping[Ids, Sequence[int]]) -> Script:
    """A script whose argmax after each prompt is its answer, then `[STOP]`.

    Ids other than those of the answer raise an `AssertionError`.
    """

    def script(ids: Ids) -> list[float]:
        prompt = next(prompt for prompt in answers if ids[: len(prompt)] == prompt)
        answer, generated = [*answers[prompt], STOP], list(ids[len(prompt) :])
        assert generated == answer[: len(generated)], f"{generated} after {prompt}, not {answer}"
        logits = [0.0] * VOCABULARY
        logits[answer[len(generated)]] = 10.0
        return logits

    return script


class ScriptedBackend:
    """The backend protocol over a script; the KV cache of a row is the tuple of its ids."""

    name = "scripted"
    config = CONFIG

    def __init__(self, script: Script, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.batch_sizes: list[int] = []  # of each prefill and step, in order
        self.prefills: list[tuple[Int64, Int64]] = []  # ids and lengths of each prefill
        self._script = script

    def attest(self) -> Attestation:
        return {}

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        self.prefills.append((ids, lengths))
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
        return self._output([(*row, i) for row, i in zip(cache, ids.tolist(), strict=True)])

    def verify(self, ids: Int64, lengths: Int64, state: State) -> Verified:
        assert self.capabilities.verify
        assert ids.dtype == lengths.dtype == np.int64
        assert lengths.shape == ids.shape[:1]
        assert 1 <= lengths.min() <= lengths.max() == ids.shape[1]
        cache, outputs = state.consume().cache, []
        for column in range(ids.shape[1]):
            # Padding is read too; no output of it may be used.
            cache = [(*row, i) for row, i in zip(cache, ids[:, column].tolist(), strict=True)]
            outputs.append(self._outputs_of(cache, lengths > column))
        logits, hidden = (np.stack(each, axis=1) for each in zip(*outputs, strict=True))
        self.batch_sizes.append(len(cache))
        excess = ids.shape[1] - lengths
        cache = [row[: len(row) - int(n)] for row, n in zip(cache, excess, strict=True)]
        return Verified(logits, hidden, _state(cache))

    def truncate(self, state: State, lengths: Int64) -> State:
        assert self.capabilities.verify
        assert lengths.dtype == np.int64
        cache = state.consume().cache
        assert all(1 <= n <= len(row) for row, n in zip(cache, lengths, strict=True))
        return _state([row[:n] for row, n in zip(cache, lengths.tolist(), strict=True)])

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
        raise AssertionError("a scripted backend has no decoder")

    def close(self) -> None:
        pass

    def _output(self, cache: list[Ids]) -> Output:
        assert self.capabilities.batch or len(cache) == 1
        most = self.capabilities.max_length
        assert most is None or all(len(ids) <= most for ids in cache)
        self.batch_sizes.append(len(cache))
        return Output(*self._outputs_of(cache, [True] * len(cache)), _state(cache))

    def _outputs_of(self, cache: list[Ids], real: Iterable[bool]) -> tuple[Float32, Float32]:
        """Logits and hidden states after the ids of each row; NaN where it has read padding."""
        logits = np.full((len(cache), VOCABULARY), np.nan, np.float32)
        hidden = np.full((len(cache), CONFIG.language_model.hidden_size), np.nan, np.float32)
        for row, (ids, own) in enumerate(zip(cache, real, strict=True)):
            if own:
                logits[row], hidden[row] = self._script(ids), hidden_after(ids)
        for values in (logits, hidden):
            values.flags.writeable = False  # a caller that writes into them gets an error
        return logits, hidden


def _state(cache: list[Ids]) -> State:
    return State(list(cache), np.array([len(ids) for ids in cache], np.int64))
