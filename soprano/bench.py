"""The time of each part of a synthesis, for one or more backends.

The regression gate runs this file on older versions of the package: it uses public names only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import soprano

TEXT = "it is half past nine, and the kettle is on."
PROMPT = 24  # ids

Clock = Callable[[], float]  # seconds


class Workload:
    """The inputs of every part: one utterance of `tokens` audio tokens."""

    def __init__(self, voice: soprano.SopranoTTS, tokens: int) -> None:
        self.voice, self.tokens = voice, tokens
        self.backend: Any = voice.backend
        config = voice.config.language_model
        generator = np.random.default_rng(0)
        self.ids = generator.integers(4, config.vocab_size, (1, max(PROMPT, tokens)))
        self.prompt = self.ids[:, :PROMPT], np.array([PROMPT])
        hidden = generator.standard_normal((1, tokens, config.hidden_size), dtype=np.float32)
        self.hidden = hidden, np.array([tokens])
        self.spectrum = self.backend.decode(*self.hidden)
        self.istft_config = voice.config.decoder.istft
        self.logits = generator.standard_normal(config.vocab_size).astype(np.float32)
        self.options = soprano.SamplingOptions(temperature=0.7)


@dataclass(frozen=True)
class Part:
    """One timed part of a synthesis.

    `callable` is the public callable that is timed: a method of the backend or the voice, or a
    function of `soprano`. `run` is what is timed; what `prepare` returns is its second argument.
    """

    name: str
    callable: str
    run: Callable[[Workload, Any], object]
    per_token: bool = True  # else the part runs once for each sentence
    prepare: Callable[[Workload], Any] = lambda work: None
    needs: str | None = None  # a capability of the backend

    def runs_on(self, backend: Any) -> bool:
        return self.needs is None or getattr(backend.capabilities, self.needs, False)

    def seconds(self, work: Workload, clock: Clock) -> float:
        prepared = self.prepare(work)
        start = clock()
        result = self.run(work, prepared)
        seconds = clock() - start
        del result  # only now: closing a stream is not timed
        return seconds


def _state(work: Workload) -> Any:
    return work.backend.prefill(*work.prompt).state


def _steps(work: Workload, state: Any) -> None:
    for index in range(work.tokens):
        state = work.backend.step(work.ids[:, index], state).state


def _verify(work: Workload, state: Any) -> None:
    """Passes over five ids each, the last of which is taken back."""
    for index in range(0, work.tokens - 4, 4):
        output = work.backend.verify(work.ids[:, index : index + 5], np.array([5]), state)
        state = work.backend.truncate(output[2], np.array([PROMPT + index + 4]))


def _samples(work: Workload, _: Any) -> None:
    for index in range(work.tokens):
        soprano.sample(work.logits, work.ids[0, :index].tolist(), work.options, 0.5)


def _first_chunk(work: Workload, _: Any) -> object:
    stream = work.voice.infer_stream(TEXT, seed=1, temperature=0.7, max_new_tokens=work.tokens)
    return next(stream), stream


# In the order of the data flow.
PARTS = (
    Part("prefill", "backend.prefill", lambda w, _: w.backend.prefill(*w.prompt), False),
    Part("step", "backend.step", _steps, prepare=_state),
    Part("verify", "backend.verify", _verify, False, _state, needs="verify"),
    Part("sample", "soprano.sample", _samples),
    Part("decode", "backend.decode", lambda w, _: w.backend.decode(*w.hidden)),
    Part("istft", "soprano.istft", lambda w, _: soprano.istft(w.spectrum, w.istft_config)),
    Part("first sound", "voice.infer_stream", _first_chunk, False),
)
PER_TOKEN = [part.name for part in PARTS if part.per_token]


def parts(voice: soprano.SopranoTTS, tokens: int) -> dict[str, Callable[[Clock], float]]:
    """For each part, a function that runs it once and returns its seconds by a clock."""
    work = Workload(voice, tokens)
    return {part.name: partial(part.seconds, work) for part in PARTS if part.runs_on(work.backend)}


@dataclass(frozen=True)
class Times:
    """Seconds of each part on one backend, for `tokens` tokens that are `audio` seconds."""

    backend: str
    seconds: Mapping[str, float]
    tokens: int
    audio: float

    @property
    def real_time_factor(self) -> float:
        """Processing time over audio time of the parts that run for every token."""
        return sum(self.seconds[name] for name in PER_TOKEN) / self.audio


def measure(
    voices: Mapping[str, soprano.SopranoTTS],
    *,
    tokens: int = 64,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[Times]:
    """The median over rounds of each part's time; in a round the backends alternate.

    `progress` is called after each timing with those done and those in all.
    """
    timed = {name: parts(voice, tokens) for name, voice in voices.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in voices}
    done, total = 0, (rounds + 1) * sum(map(len, timed.values()))
    for number in range(rounds + 1):
        for part in PARTS:
            for name in (name for name, own in timed.items() if part.name in own):
                spent = timed[name][part.name](perf_counter)
                if number:  # the first round warms up
                    seconds[name].setdefault(part.name, []).append(spent)
                done += 1
                if progress:
                    progress(done, total)
    return [
        Times(
            name,
            {part: median(spent) for part, spent in seconds[name].items()},
            tokens,
            tokens * voice.config.decoder.samples_per_token / voice.sample_rate,
        )
        for name, voice in voices.items()
    ]


def table(times: Sequence[Times]) -> str:
    """Milliseconds by part and backend, and the real-time factor."""
    lines = ["| part | " + " | ".join(t.backend for t in times) + " |"]
    lines.append("|---|" + "---:|" * len(times))
    for part in PARTS:
        unit = "ms a token" if part.per_token else "ms"
        count = times[0].tokens if part.per_token else 1
        values = (
            f"{t.seconds[part.name] * 1e3 / count:.3f}" if part.name in t.seconds else ""
            for t in times
        )
        lines.append(f"| {part.name}, {unit} | " + " | ".join(values) + " |")
    factors = " | ".join(f"{t.real_time_factor:.3f}" for t in times)
    return "\n".join([*lines, f"| real-time factor | {factors} |"])


def plot(times: Sequence[Times], path: Path) -> None:
    """Draw milliseconds per token as a PNG: one bar for each backend, its parts stacked.

    Raises:
        ImportError: matplotlib is not installed (the extra `bench`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.6 * len(times)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(times))
    for part in PER_TOKEN:
        widths = np.array([t.seconds[part] * 1e3 / t.tokens for t in times])
        axes.barh([t.backend for t in times], widths, left=left, label=part)
        left += widths
    limit = times[0].audio / times[0].tokens * 1e3
    axes.set_xlabel(f"ms a token (a token is {limit:.0f} ms of sound)")
    axes.legend()
    figure.savefig(path, format="png")
