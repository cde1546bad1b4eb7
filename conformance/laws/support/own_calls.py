"""Calls of the stages that a backend has of its own: valid ones, and ones that it should refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conformance.golden.inputs import hidden_pool, sequence
from conformance.judging.skips import NotDeclared
from conformance.judging.vectors import Vectors
from conformance.laws.support.interleaving import TOKENS
from conformance.laws.support.sampler_probes import likely
from soprano.backends import BUILT_IN
from soprano.config import SamplingOptions
from soprano.stages import Stages

OPTIONS = SamplingOptions(0.9, 0.95, 0, 1.2)
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.2)
SPOKEN = 6  # new tokens
PENALISED = 45  # ids of a prompt that is refused
MANY = 8  # threads, and numbers of a call, each with other inputs
SENTENCES = ("It is 8:15.", "Dr. Jones paid $5.", "NASA is 60 years old.", "No!")
NORMALISED = ("it is so. but why not, then?", "yes.", "go on! go on!", "one two, three.")
FRAMES = 9
NOT_TEXT = (None, 5, b"abc")
METHODS = (
    "normalize", "split", "tokenize", "sample", "istft", "decode_audio", "is_stuck", "synthesize",
    "synthesize_batch", "stream", "wav",
)  # fmt: skip


class OwnCall(NamedTuple):
    """One stage: its valid call by a number, how the result is read, and the arguments to refuse.

    `read` gives arrays of floats by quantity, and other values, which must be equal.
    """

    call: Callable[[int], Any]
    read: Callable[[Any], dict[str, Any]]
    refused: list[tuple[str, Callable[[], Any]]]

    def __call__(self, number: int) -> dict[str, Any]:
        return self.read(self.call(number))


class OwnCalls:
    """The calls of a backend; of a backend of this package, those of the shared stages."""

    def __init__(self, backend: Any, name: str, stages: Stages, vectors: Vectors, model: Path):
        self.backend, self.stages, self.vectors, self.model = backend, stages, vectors, model
        self._shared = {"normalize", "split", "sample", "istft", "is_stuck"} & (
            set(METHODS) if name in BUILT_IN else set()
        )
        self.options = OPTIONS if backend.capabilities.uniforms else GREEDY
        self.pool = hidden_pool(vectors.arrays)

    def of(self, method: str) -> OwnCall:
        """The call of a method.

        Raises:
            NotDeclared: the backend does not have it.
        """
        if hasattr(self.backend, method):
            return getattr(self, method)(getattr(self.backend, method))  # type: ignore[no-any-return]
        if method in self._shared:
            return getattr(self, method)(getattr(self.stages, method))  # type: ignore[no-any-return]
        raise NotDeclared(f"{self.backend.name} has no {method} of its own")

    def normalize(self, own: Any) -> OwnCall:
        refused = _calls(own, "a text of ", {repr(text): (text,) for text in NOT_TEXT})
        return OwnCall(lambda n: own(SENTENCES[n % 4]), lambda text: {"text": text}, refused)

    def split(self, own: Any) -> OwnCall:
        refused = _calls(own, "a text of ", {repr(text): (text,) for text in NOT_TEXT})
        return OwnCall(
            lambda n: own(NORMALISED[n % 4]), lambda parts: {"sentences": list(parts)}, refused
        )

    def tokenize(self, own: Any) -> OwnCall:
        prompt = own(self.model).prompt
        texts = ("", "dog [STOP] cat", "b" * 4000, *NOT_TEXT)
        refused = _calls(prompt, "a sentence ", {f"{text!r:.20}": (text,) for text in texts})
        return OwnCall(lambda n: prompt(NORMALISED[n % 4]), lambda ids: {"ids": list(ids)}, refused)

    def sample(self, own: Any) -> OwnCall:
        size = self.backend.config.language_model.vocab_size
        logits = likely(size, [33, 30])  # a penalty makes the other id the best
        middle = 0.5 if self.options.temperature else None
        options = SamplingOptions(float(bool(middle)), 1.0, 0, 1.2)

        def draw(number: int) -> Any:
            history = [number] if number % 2 else [size // 2]
            return own(np.roll(logits, number), history, options, middle)

        def wrong(value: float) -> Any:
            return np.where(np.arange(size) == size // 3, value, logits).astype(np.float32)

        first = [0, 0, 2]  # what the first valid call has not in its history
        arguments: dict[str, tuple[Any, ...]] = {
            "logits with a NaN": (wrong(np.nan), first, options, middle),
            "logits with an infinity": (wrong(np.inf), first, options, middle),
            "logits of -inf": (np.full(size, -np.inf, np.float32), first, options, middle),
            "no logits": (logits[:0], first, options, middle),
            "logits with an axis too many": (logits[None], first, options, middle),
            "logits that are None": (None, first, options, middle),
            "an id beyond the vocabulary": (logits, [*first, size], options, middle),
            "an id below 0": (logits, [*first, -1], options, middle),
            "a history with a word": (logits, [*first, "a"], options, middle),
            "a uniform of 1.5": (logits, first, OPTIONS, 1.5),
            "a uniform of NaN": (logits, first, OPTIONS, np.nan),
            "no options": (logits, first, None, middle),
        }
        refused = _calls(own, "", arguments)
        return OwnCall(draw, lambda chosen: {"id": int(chosen)}, refused)

    def istft(self, own: Any) -> OwnCall:
        config = self.backend.config.decoder
        layout = self.backend.capabilities.layouts[0]
        random = np.random.default_rng(2)
        shape = (MANY, 1, config.bins, FRAMES, 2)
        spectra = random.normal(size=shape).astype(np.float32)
        spectra[:, :, [0, -1]] = 0

        def laid(spectrum: Any) -> Any:
            return spectrum if layout == "bft2" else np.moveaxis(spectrum, 3, 1)

        loud = 1e3 * spectra[0]
        arguments: dict[str, tuple[Any, ...]] = {
            "a bin too few": (laid(loud[:, 1:]), config.istft, layout),
            "a bin too many": (laid(np.repeat(loud, 2, axis=1)[:, 1:]), config.istft, layout),
            "no rows and axes": (loud[0, 0], config.istft, layout),
            "an unknown layout": (laid(loud), config.istft, "tbf2"),
            "None": (None, config.istft, layout),
            "words": (laid(loud.astype(str)), config.istft, layout),
        }
        refused = _calls(own, "a spectrum of ", arguments)
        return OwnCall(
            lambda n: own(laid(spectra[n]).copy(), config.istft, layout),
            lambda samples: {"samples": samples},
            refused,
        )

    def decode_audio(self, own: Any) -> OwnCall:
        def decode(number: int) -> Any:
            hidden = self.pool[13 * number :][None, : TOKENS - number % 2]
            return own(hidden.copy(), np.array([hidden.shape[1]]))

        loud, three = 100 * self.pool[None, :3], np.array([3])
        arguments: dict[str, tuple[Any, ...]] = {
            "one channel too few": (loud[..., 1:], three),
            "no rows": (loud[0], three),
            "a negative length": (loud, np.array([-1])),
            "a length beyond the array": (loud, np.array([4])),
            "None": (None, three),
        }
        refused = _calls(own, "", arguments)
        return OwnCall(decode, lambda samples: {"samples": samples}, refused)

    def is_stuck(self, own: Any) -> OwnCall:
        hidden = np.repeat(self.pool[:1], 18, axis=0)  # the counter of 17 small steps is too high
        arguments: dict[str, tuple[Any, ...]] = {
            "None": (None, 300.0),
            "no axis of channels": (hidden[:, 0], 300.0),
            "words": (hidden.astype(str), 300.0),
            "a distance of None": (hidden, None),
        }
        refused = _calls(own, "", arguments)
        return OwnCall(
            lambda n: own(hidden[: 17 + n % 2].copy(), 300.0),
            lambda stuck: {"stuck": bool(stuck)},
            refused,
        )

    def utterance(self, number: int) -> tuple[Any, ...]:
        """The arguments of `synthesize`."""
        draws = self.stages.uniforms(23, number, 0)
        prompt = sequence(self.vectors.arrays, number)[: 5 + number % 3].tolist()
        return prompt, self.options, [next(draws) for _ in range(SPOKEN)], SPOKEN

    def _refused(self, run: Callable[..., Any]) -> list[tuple[str, Callable[[], Any]]]:
        """Calls of a loop; some fail before its first step, some at a later one."""
        prompt, options, draws, limit = self.utterance(1)
        size = self.backend.config.language_model.vocab_size
        # A penalty of these ids, if it stays, changes what later calls draw.
        prompt = [*prompt, *range(4, size, 2)][:PENALISED]
        arguments: dict[str, tuple[Any, ...]] = {
            "an id beyond the vocabulary": ([*prompt, size], options, draws, limit),
            "an id below 0": ([*prompt, -1], options, draws, limit),
            "no ids": ([], options, draws, limit),
            "too few uniforms": (prompt, options, draws[:2], limit),
            "a NaN among the uniforms": (prompt, options, [*draws[:3], np.nan, *draws[4:]], limit),
            "no options": (prompt, None, draws, limit),
        }
        return _calls(run, "", arguments)

    def synthesize(self, own: Any) -> OwnCall:
        return OwnCall(lambda n: own(*self.utterance(n)), _spoken, self._refused(own))

    def synthesize_batch(self, own: Any) -> OwnCall:
        def run(number: int) -> Any:
            (prompt, options, draws, limit), (other, _, more, _) = map(
                self.utterance, (number, number + 1)
            )
            return own([prompt, other], options, [draws, more], limit)

        def read(results: Any) -> dict[str, Any]:
            rows = [_spoken(result) for result in results]
            return {f"row {i}, {name}": v for i, row in enumerate(rows) for name, v in row.items()}

        valid = self.utterance(0)

        def refuse(ids: Any, options: Any, draws: Any, limit: Any) -> Any:
            return own([valid[0], ids], options, [valid[2], draws], limit)

        return OwnCall(run, read, self._refused(refuse))

    def stream(self, own: Any) -> OwnCall:
        return OwnCall(
            lambda n: list(own(*self.utterance(n), 2)),
            lambda chunks: {"samples": np.concatenate([np.zeros(0, np.float32), *chunks])},
            self._refused(lambda *given: list(own(*given, 2))),
        )

    def wav(self, own: Any) -> OwnCall:
        def samples(number: int) -> Any:
            return np.sin(np.arange(200 + number) * (number + 1)).astype(np.float32) / 2

        arguments: dict[str, tuple[Any, ...]] = {
            "None": (None, 16000),
            "two axes": (samples(1)[None], 16000),
            "words": (samples(1).astype(str), 16000),
            "a rate of None": (samples(1), None),
            "a negative rate": (samples(1), -1),
        }
        refused = _calls(own, "", arguments)
        return OwnCall(
            lambda n: own(samples(n), 16000 + n), lambda raw: {"bytes": bytes(raw)}, refused
        )


def _calls(
    own: Callable[..., Any], what: str, arguments: Mapping[str, tuple[Any, ...]]
) -> list[tuple[str, Callable[[], Any]]]:
    return [(what + name, partial(own, *given)) for name, given in arguments.items()]


def _spoken(result: Any) -> dict[str, Any]:
    ids, samples, finish = result
    return {"ids": [int(i) for i in ids], "samples": samples, "finish": finish}


def spoil(result: Any) -> Iterator[str]:
    """Change what a call has returned, as its caller may; yields what was changed."""
    if isinstance(result, np.ndarray):
        if result.size and result.flags.writeable:
            result[...] = 77
            yield "array"
    elif isinstance(result, tuple):
        for part in result:
            yield from spoil(part)
    elif isinstance(result, list):
        for part in result:
            yield from spoil(part)
        result.clear()
        yield "list"
